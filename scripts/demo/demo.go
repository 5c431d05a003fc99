package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// demonstrate does it all. What it returns is what went wrong outside of the pulls, which conclude is told about.
func (d *demo) demonstrate(ctx context.Context) (err error) {
	if d.p2pd, err = filepath.Abs(d.p2pd); err != nil {
		return err
	}
	if _, err := os.Stat(d.p2pd); err != nil {
		return fmt.Errorf("the node's program is missing (make build): %w", err)
	}
	removeAbandoned(os.TempDir())
	dir, err := makeDir(d.keep)
	if err != nil {
		return err
	}
	defer func() {
		if d.keep {
			_, _ = fmt.Fprintln(d.out, "Data and logs of the nodes are in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if d.hub {
		d.onFarm(ctx, dir, nil)
		return nil
	}
	return d.onStandIn(ctx, dir)
}

// onStandIn makes an image, and a Docker Hub that has it.
func (d *demo) onStandIn(ctx context.Context, dir string) error {
	if err := checkRoom(dir, d.options); err != nil {
		return err
	}
	start := time.Now()
	made, err := makeImage(ctx, dir, d.layers)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(d.out, "Made %s out of files of this machine: %d layers, %s (%.1f s).\n",
		d.image, len(made.Layers), size(made.UniqueBytes()), time.Since(start).Seconds())
	h, err := hub.Start(hub.Config{Rate: d.rate})
	if err != nil {
		return fmt.Errorf("start the Docker Hub stand-in: %w", err)
	}
	defer func() { _ = h.Close() }()
	if err := made.AddTo(h, d.image.repository, d.image.reference); err != nil {
		return fmt.Errorf("put the image into the stand-in: %w", err)
	}
	d.onFarm(ctx, dir, &standIn{h, made})
	return nil
}

// A standIn is the Docker Hub of this process and the image that it has.
type standIn struct {
	*hub.Hub
	image *images.Image
}

// onFarm starts the farm, has it pull twice, tells how that went, and stops the farm. s is nil where the upstream is the
// real Docker Hub.
func (d *demo) onFarm(ctx context.Context, dir string, s *standIn) {
	upstream, cache := "", int64(64<<30)
	if s != nil {
		upstream, cache = s.URL(), 2*s.image.UniqueBytes()+64<<20
	}
	limited, cancel := context.WithTimeout(ctx, timeLimit(d.options))
	defer cancel()
	start := time.Now()
	f, err := startFarm(limited, d.options, dir, upstream, cache, d.out)
	defer f.stop()
	var r *report
	if err == nil {
		_, _ = fmt.Fprintf(d.out, "%s.\nAll of them pull %s at once:\n\n", introduce(f, s, d.options, time.Since(start)), d.image)
		r, err = d.pullTwice(limited, f, s)
	}
	d.conclude(ctx, r, err)
	if d.failed && len(f.hosts) > 0 {
		_, _ = fmt.Fprintf(d.out, "Stopping %d nodes …\n", len(f.hosts))
	}
}

// pullTwice reports what the farm does. An error beside a report says what was wrong with the pulls.
func (d *demo) pullTwice(ctx context.Context, f *farm, s *standIn) (*report, error) {
	link := &link{farm: f, standIn: s}
	first := f.pull(ctx, d.image, link, d.out)
	r := newReport(d.options, f, s, first)
	if first.err != nil || ctx.Err() != nil {
		err := errors.Join(first.err, f.gone(), ctx.Err())
		if s == nil {
			err = fmt.Errorf("%w\n(does this machine reach Docker Hub? without HUB=1 a stand-in takes its place)", err)
		}
		return r, r.fail(err)
	}
	if err := r.account(ctx, f, link, first); err != nil {
		return r, r.fail(err)
	}
	second := f.pull(ctx, d.image, link, io.Discard)
	if second.err != nil {
		return r, r.fail(fmt.Errorf("the second pull: %w", second.err))
	}
	if err := r.accountAgain(ctx, f, link, second); err != nil {
		return r, r.fail(err)
	}
	return r, r.fail(r.verdict())
}

func introduce(f *farm, s *standIn, o options, took time.Duration) string {
	text := fmt.Sprintf("Started %d nodes (%.1f s): registries at %s", len(f.hosts), took.Seconds(), f.hosts[0].registry)
	if n := len(f.hosts); n > 1 {
		text += " … " + f.hosts[n-1].registry
	}
	switch {
	case s == nil:
		return text + "\nUpstream: Docker Hub"
	case o.rate == 0:
		return text + "\nUpstream: a stand-in for Docker Hub"
	}
	return text + fmt.Sprintf("\nUpstream: a stand-in for Docker Hub behind a link of %s/s", size(o.rate))
}

// timeLimit bounds the pulls: four times what they would take if every host went to the stand-in by itself, and time
// for a slow machine.
func timeLimit(o options) time.Duration {
	limit := 3 * time.Minute
	if o.hub {
		limit = 30 * time.Minute
	}
	if o.rate > 0 {
		limit += 4 * time.Duration(float64(o.nodes)*float64(sum(o.layers))/float64(o.rate)*float64(time.Second))
	}
	return limit
}

// pulls are what all hosts have pulled at once.
type pulls struct {
	engines []*engine
	took    time.Duration // until the last had finished
	err     error         // of all that failed
}

// pull has all hosts pull and shows how far they are.
func (f *farm) pull(ctx context.Context, i image, l *link, out io.Writer) *pulls {
	p := &pulls{}
	for _, h := range f.hosts {
		p.engines = append(p.engines, newEngine(h.registry, i))
	}
	watch := newWatch(out, f, p.engines, l)
	shown := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	go func() {
		defer close(shown)
		watch.run(watching)
	}()
	start := time.Now()
	errs := make([]error, len(p.engines))
	var group errgroup.Group
	for n, e := range p.engines {
		group.Go(func() error {
			if err := e.pull(ctx); err != nil {
				errs[n] = fmt.Errorf("host %s: %w", f.hosts[n].name, err)
			}
			return nil
		})
	}
	_ = group.Wait()
	p.took = time.Since(start)
	stop()
	<-shown
	p.err = errors.Join(errs...)
	return p
}

func sum(ns []int64) int64 {
	var s int64
	for _, n := range ns {
		s += n
	}
	return s
}
