package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

// simulate runs p2psim, which drives the product's own scheduler.
func (b *bench) simulate(ctx context.Context, args ...string) (sim.Result, error) {
	var r sim.Result
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.p2psim, append(args, "-o", "json")...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("p2psim %v: %w: %s", args, err, stderr.String())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("read what p2psim wrote: %w", err)
	}
	return r, nil
}

// simulateAll runs as many simulations as there are runs, one for each seed from 1 on, as many at once as there are
// processors: the time that they take is not what they measure.
func (b *bench) simulateAll(ctx context.Context, args ...string) ([]sim.Result, error) {
	all := make([]sim.Result, b.runs)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range all {
		group.Go(func() error {
			r, err := b.simulate(ctx, append(slices.Clone(args), "-seed", fmt.Sprint(i+1))...)
			all[i] = r
			return err
		})
	}
	return all, group.Wait()
}

// measureSim compares simulated farms with the bound.
func measureSim(ctx context.Context, b *bench, s *sheet) error {
	for _, hosts := range []int{8, 512, 4096} {
		mean := s.line(fmt.Sprintf("%d hosts, mean ÷ bound", hosts), "", atMost(1.10), "")
		p99 := s.line(fmt.Sprintf("%d hosts, p99 ÷ bound", hosts), "", atMost(1.13), "")
		if b.quick && hosts > 512 {
			s.note("%d hosts are left out of a quick try", hosts)
			continue
		}
		all, err := b.simulateAll(ctx, "-hosts", fmt.Sprint(hosts), "-size", "1GiB", "-host-rate", "10gbit", "-upstream-rate", "10gbit",
			"-rtt", "300us", "-message-cost", "20us", "-loss", "0.001")
		if err != nil {
			return err
		}
		for _, r := range all {
			mean(r.Mean)
			p99(r.P99)
		}
	}
	s.note("simulated: 10 Gbit/s links and upstream, RTT 0.3 ms, 20 µs a message, 0.1%% of messages lost, one seed a run")
	return nil
}
