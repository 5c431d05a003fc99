// Command checker is the client of the farm in docker-compose.test.yml: it puts an image into the stand-in, pulls it
// through all nodes at once, and ends with exit code 0 if each got it and it crossed the upstream link once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/images"
)

const (
	repository = "library/app"
	tag        = "1"
	mib        = 1 << 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are where everything is.
type options struct {
	hub, admin     string // URLs
	user, password string
	within         time.Duration
	nodes          []string // host names
}

// run is the program: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "checker:", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	if err := check(ctx, o, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, "checker:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("checker", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&o.hub, "hub", "", "`URL` of the stand-in's registry")
	set.StringVar(&o.admin, "admin", "", "`URL` of its admin API")
	set.DurationVar(&o.within, "within", time.Minute, "how long all of it may take")
	set.Func("user", "`name:password` to push as", func(text string) (err error) {
		var ok bool
		if o.user, o.password, ok = strings.Cut(text, ":"); !ok {
			err = errors.New("want name:password")
		}
		return err
	})
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.nodes = set.Args()
	if o.hub == "" || o.admin == "" || len(o.nodes) == 0 {
		return o, errors.New("want -hub, -admin and the names of nodes")
	}
	return o, nil
}

func check(ctx context.Context, o options, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "checker")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	image, err := images.Build(ctx, dir, images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(1, 24*mib, 5*mib, 4096)})
	if err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	if err := retry(ctx, func() error {
		return images.Push(ctx, image, o.hub, repository, tag, images.Auth{User: o.user, Password: o.password})
	}); err != nil {
		return err
	}
	addresses, err := waitFarm(ctx, o.nodes)
	if err != nil {
		return err
	}
	if err := reset(ctx, o.admin); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for i, address := range addresses {
		group.Go(func() error {
			start := time.Now()
			n, err := pull(groupCtx, address, image)
			if err != nil {
				return fmt.Errorf("pull through %s: %w", o.nodes[i], err)
			}
			_, err = fmt.Fprintf(stdout, "%s gave %d bytes in %v\n", o.nodes[i], n, time.Since(start).Round(time.Millisecond))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return once(ctx, o.admin, image, stdout)
}
