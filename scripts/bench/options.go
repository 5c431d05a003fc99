package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// quickDivisor is by how much -quick shrinks what is moved.
const quickDivisor = 8

// options is what the command line says.
type options struct {
	only    []string
	shaped  bool
	runs    int
	quick   bool
	dir     string // for data; the bench makes a folder of its own in it
	json    string // file for the results
	profile string // folder for CPU profiles of the nodes; empty: none
	keep    bool
	limit   time.Duration
	list    bool
	report  []string // files to make the document's tables from
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	var o options
	var only string
	var report bool
	set.StringVar(&only, "only", "", "measure only these `figures`, by name, separated by commas; see -list")
	set.BoolVar(&o.shaped, "shaped", false, "measure the figures that need network namespaces and shaped links: root and iproute2")
	set.IntVar(&o.runs, "runs", 3, "`runs` of each figure; pairs that are compared are taken at least 5 times if it is above 1")
	set.BoolVar(&o.quick, "quick", false, "one run, with an eighth of the bytes: to try, not to quote")
	set.StringVar(&o.dir, "dir", os.TempDir(), "`folder` for data, about 30 GiB")
	set.StringVar(&o.json, "json", "", "write the results to this `file` as JSON")
	set.StringVar(&o.profile, "profile", "", "write CPU profiles of the nodes to this `folder`; they cost a few percent")
	set.BoolVar(&o.keep, "keep", false, "leave data and logs behind")
	set.DurationVar(&o.limit, "limit", time.Hour, "give up after this `time`")
	set.BoolVar(&o.list, "list", false, "list the figures")
	set.BoolVar(&report, "report", false, "print the tables of docs/performance.md from the result files that are named")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if report {
		o.report = set.Args()
		if len(o.report) == 0 {
			return o, errors.New("-report needs files")
		}
		return o, nil
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	if o.runs < 1 {
		return o, fmt.Errorf("-runs is %d, must be at least 1", o.runs)
	}
	if o.quick {
		o.runs = 1
	}
	return o, o.choose(only)
}

// choose checks the names of -only.
func (o *options) choose(only string) error {
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.ContainsFunc(figures(), func(f figure) bool { return f.name == name }) {
			return fmt.Errorf("there is no figure %q; -list names them", name)
		}
		o.only = append(o.only, name)
	}
	return nil
}

// chosen are the figures to measure.
func (o options) chosen() []figure {
	var chosen []figure
	for _, f := range figures() {
		if len(o.only) > 0 && slices.Contains(o.only, f.name) || len(o.only) == 0 && f.shaped == o.shaped {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// pairs is how often a comparison is made.
func (o options) pairs() int {
	const least = 5
	if o.runs == 1 {
		return 1
	}
	return max(o.runs, least)
}

// size is how many bytes stand for so many in this run.
func (o options) size(bytes int64) int64 {
	if o.quick {
		return bytes / quickDivisor
	}
	return bytes
}
