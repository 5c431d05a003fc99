package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDegraded    = 3 // the farm needs an operator's look; the result is whole all the same
	exitUnreachable = 4 // no node answers
)

// run is the program: results go to stdout, all else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	end, ok := errors.AsType[*ending](err)
	if !ok { // not from a command's work: cobra did not get that far
		_, _ = fmt.Fprintf(stderr, "p2pctl: %v\nRun 'p2pctl --help' for usage.\n", err)
		return exitUsage
	}
	if end.err != nil {
		_, _ = fmt.Fprintf(stderr, "p2pctl: %s\n", printable(end.err.Error()))
	}
	return end.code
}

// An ending is how a command's work ended when it was not well.
type ending struct {
	code int
	err  error // nil when there is nothing to say
}

func (e *ending) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

var errDegraded = &ending{code: exitDegraded}

// work makes a command of f, whose errors are then no longer taken for wrong usage.
func work(f func(ctx context.Context) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		err := f(cmd.Context())
		if _, ok := errors.AsType[*ending](err); ok || err == nil {
			return err
		}
		if _, ok := errors.AsType[*adminapi.UnreachableError](err); ok {
			return &ending{exitUnreachable, err}
		}
		return &ending{exitFailed, err}
	}
}

// workOn is work with the command's one argument.
func workOn(f func(ctx context.Context, arg string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return work(func(ctx context.Context) error { return f(ctx, args[0]) })(cmd, args)
	}
}
