// Command demo shows on one machine what a farm does: it starts a Docker Hub stand-in behind a link of limited rate
// and a farm of p2pd processes, each on a loopback address of its own, has all of them pull one image at once as
// container engines do, and says how often the image's bytes crossed the link. With -push there is no upstream: an image
// is pushed to one host, all pull it, that host is lost, and what was pushed is not.
//
// Everything that it starts it stops, and what it writes is in a temporary directory that it removes.
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

// The exit codes.
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
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return exitUsage
	}
	file, err := openReport(o.jsonFile)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	}
	d := &demo{options: o, out: stdout, stderr: stderr, file: file}
	if file != nil {
		defer func() { _ = file.Close() }()
	}
	d.conclude(ctx, nil, d.demonstrate(ctx))
	if d.failed {
		return exitFailed
	}
	return exitDone
}

// A demo is one demonstration and where it speaks.
type demo struct {
	options
	out, stderr io.Writer
	file        *os.File // for the report as JSON; nil: none
	failed      bool
}

// conclude tells people, and the file, how it went. It does so before the farm is stopped, which takes time.
func (d *demo) conclude(ctx context.Context, r *report, err error) {
	if r != nil {
		r.print(d.out)
		err = errors.Join(err, r.write(d.file))
	}
	if err == nil {
		return
	}
	d.failed = true
	if ctx.Err() != nil {
		err = errors.New("stopped before the end")
	}
	_, _ = fmt.Fprintln(d.stderr, "demo:", err)
}
