// Command bench measures what docs/performance.md lists: how often a farm fetches a byte, how near its pulls come to
// what the links allow, and what a node costs in processor time, memory and delay.
//
// Every figure starts what it needs, p2pd processes and what they are compared with, and stops it. The central idea is
// that a number stands beside one from the same run: a plain server, another registry, the goodput of the same links.
// Comparisons are pairs, taken in turn. The figures are printed as a table and written as JSON; -report makes the
// document's tables from such files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes. A figure that misses its target is a result, not a failure.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == plainCommand {
		return exit(stderr, servePlain(ctx, args[1:], stdout))
	}
	if len(args) == 1 && args[0] == voterCommand {
		return exit(stderr, serveVoter(ctx, os.Stdin, stdout))
	}
	if len(args) == 1 && args[0] == safeCommand {
		return exit(stderr, serveSafe(ctx, os.Stdin, stdout))
	}
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", err)
		return exitUsage
	}
	switch {
	case o.list:
		return exit(stderr, list(stdout))
	case len(o.report) > 0:
		return exit(stderr, reportFiles(stdout, o.report))
	}
	return exit(stderr, measure(ctx, o, stdout, stderr))
}

func exit(stderr io.Writer, err error) int {
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", err)
		return exitFailed
	}
	return exitDone
}

func list(w io.Writer) error {
	for _, f := range figures() {
		kind := ""
		if f.shaped {
			kind = " (-shaped)"
		}
		if _, err := fmt.Fprintf(w, "%-16s %s%s\n", f.name, f.about, kind); err != nil {
			return err
		}
	}
	return nil
}
