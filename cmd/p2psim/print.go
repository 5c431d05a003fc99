package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"text/tabwriter"
	"time"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

// simulate runs what was asked for and prints a line, or an object, for each run.
func simulate(o options, stdout, stderr io.Writer) int {
	if o.cpuProfile != "" {
		stop, err := profile(o.cpuProfile)
		if err != nil {
			fmt.Fprintln(stderr, "p2psim:", err)
			return 1
		}
		defer stop()
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if o.output == "table" {
		fmt.Fprintln(table, "HOSTS\tBOUND\tMEAN\tP50\tP99\tMAX\tUPSTREAM\tCROSS-ZONE\tWASTED\tOVERHEAD\tMESSAGES/PIECE\tBUSY\tDUPLICATES\tLOST\tTOOK")
	}
	for i := range o.runs {
		cfg := o.cfg
		cfg.Seed += uint64(i)
		began := time.Now()
		r, err := sim.Run(cfg)
		if err != nil {
			_ = table.Flush()
			fmt.Fprintln(stderr, "p2psim:", err)
			return 1
		}
		if o.output == "json" {
			err = json.NewEncoder(stdout).Encode(r)
		} else {
			row(table, r, time.Since(began))
			err = table.Flush()
		}
		if err != nil {
			fmt.Fprintln(stderr, "p2psim: write result:", err)
			return 1
		}
	}
	return 0
}

func row(w io.Writer, r sim.Result, took time.Duration) {
	fmt.Fprintf(w, "%d\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.2f%%\t%.3f%%\t%.1f\t%d\t%d\t%d\t%s\n",
		r.Hosts, r.Bound.Round(time.Millisecond), r.Mean, r.P50, r.P99, r.Max, r.UpstreamRatio, r.CrossRatio,
		100*r.Wasted, 100*r.Overhead, r.PerPiece, r.Busy, r.Duplicates, r.Lost, took.Round(time.Millisecond))
}

// profile starts a CPU profile; the function that it gives ends it.
func profile(path string) (func(), error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("start profile: %w", err)
	}
	return func() { pprof.StopCPUProfile(); _ = file.Close() }, nil
}
