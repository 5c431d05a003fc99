package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
		d.onFarm(ctx, dir, settings{cacheBytes: 64 << 30}, func(ctx context.Context, f *farm) (*report, error) {
			return d.pullTwice(ctx, f, nil)
		})
		return nil
	}
	made, err := d.makeImage(ctx, dir)
	if err != nil {
		return err
	}
	s := settings{cacheBytes: 2*made.UniqueBytes() + 64<<20, hosted: d.push}
	if d.push {
		d.onFarm(ctx, dir, s, func(ctx context.Context, f *farm) (*report, error) {
			return d.pushAndPull(ctx, f, dir, made)
		})
		return nil
	}
	return d.onStandIn(ctx, dir, s, made)
}

// makeImage makes an image if there is room for it, and says so.
func (d *demo) makeImage(ctx context.Context, dir string) (*images.Image, error) {
	if err := checkRoom(dir, d.options); err != nil {
		return nil, err
	}
	start := time.Now()
	made, err := makeImage(ctx, dir, d.layers)
	if err != nil {
		return nil, err
	}
	d.say("Made %s out of files of this machine: %d layers, %s (%.1f s).",
		d.image, len(made.Layers), size(made.UniqueBytes()), time.Since(start).Seconds())
	return made, nil
}

// say tells people something in a line or more.
func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) }

// onStandIn has a farm pull from a Docker Hub that has the image.
func (d *demo) onStandIn(ctx context.Context, dir string, s settings, made *images.Image) error {
	h, err := hub.Start(hub.Config{Rate: d.rate})
	if err != nil {
		return fmt.Errorf("start the Docker Hub stand-in: %w", err)
	}
	defer func() { _ = h.Close() }()
	if err := made.AddTo(h, d.image.repository, d.image.reference); err != nil {
		return fmt.Errorf("put the image into the stand-in: %w", err)
	}
	s.upstream = h.URL()
	d.onFarm(ctx, dir, s, func(ctx context.Context, f *farm) (*report, error) {
		return d.pullTwice(ctx, f, &standIn{h, made})
	})
	return nil
}

// A standIn is the Docker Hub of this process and the image that it has.
type standIn struct {
	*hub.Hub
	image *images.Image
}

// onFarm starts the farm, has something be shown on it, tells how that went, and stops the farm. An error beside a report
// says what was wrong with what is in it.
func (d *demo) onFarm(ctx context.Context, dir string, s settings, show func(context.Context, *farm) (*report, error)) {
	limited, cancel := context.WithTimeout(ctx, timeLimit(d.options))
	defer cancel()
	start := time.Now()
	f, err := startFarm(limited, d.options, dir, s, d.out)
	defer f.stop()
	var r *report
	if err == nil {
		d.say("%s.", introduce(f, time.Since(start)))
		r, err = show(limited, f)
	}
	d.conclude(ctx, r, err)
	if d.failed && len(f.hosts) > 0 {
		d.say("Stopping %d nodes …", len(f.hosts))
	}
}

// pullTwice reports how all hosts pull at once, and again. s is nil where the upstream is the real Docker Hub.
func (d *demo) pullTwice(ctx context.Context, f *farm, s *standIn) (*report, error) {
	d.say("All of them pull %s at once:\n", d.image)
	link := &link{farm: f, standIn: s}
	first := pull(ctx, f.hosts, d.image, link, d.out)
	r := newReport(d.options)
	r.pulled(first)
	r.ofStandIn(d.options, s)
	if first.err != nil || ctx.Err() != nil {
		err := errors.Join(first.err, f.gone(), ctx.Err())
		if s == nil {
			err = fmt.Errorf("%w\n(does this machine reach Docker Hub? without HUB=1 a stand-in takes its place)", err)
		}
		return r, r.fail(err)
	}
	if err := r.account(ctx, link, first); err != nil {
		return r, r.fail(err)
	}
	second := pull(ctx, f.hosts, d.image, link, io.Discard)
	if second.err != nil {
		return r, r.fail(fmt.Errorf("the second pull: %w", second.err))
	}
	if err := r.accountAgain(ctx, link, second); err != nil {
		return r, r.fail(err)
	}
	return r, r.fail(r.verdict())
}

func introduce(f *farm, took time.Duration) string {
	text := fmt.Sprintf("Started %d nodes (%.1f s): registries at %s", len(f.hosts), took.Seconds(), f.hosts[0].registry)
	if n := len(f.hosts); n > 1 {
		text += " … " + f.hosts[n-1].registry
	}
	switch {
	case f.push:
		return text + "\nUpstream: none"
	case f.hub:
		return text + "\nUpstream: Docker Hub"
	case f.rate == 0:
		return text + "\nUpstream: a stand-in for Docker Hub"
	}
	return text + fmt.Sprintf("\nUpstream: a stand-in for Docker Hub behind a link of %s/s", size(f.rate))
}

// timeLimit bounds what is shown: four times what the pulls would take if every host went to the stand-in by itself, and
// time for a slow machine.
func timeLimit(o options) time.Duration {
	limit := 3 * time.Minute
	switch {
	case o.hub:
		limit = 30 * time.Minute
	case o.push:
		limit = 8 * time.Minute // three copies of it all, two pulls and an election
	}
	if o.rate > 0 {
		limit += 4 * time.Duration(float64(o.nodes)*float64(sum(o.layers))/float64(o.rate)*float64(time.Second))
	}
	return limit
}

// pulls are what some hosts have pulled at once.
type pulls struct {
	hosts   []*host
	engines []*engine
	took    time.Duration // until the last had finished
	err     error         // of all that failed
}

// pull has hosts pull and shows how far they are.
func pull(ctx context.Context, hosts []*host, i image, l *link, out io.Writer) *pulls {
	p := &pulls{hosts: slices.Clone(hosts)}
	for _, h := range hosts {
		p.engines = append(p.engines, newEngine(h.registry, i))
	}
	watch := newWatch(out, p.hosts, p.engines, l)
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
				errs[n] = fmt.Errorf("host %s: %w", hosts[n].name, err)
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
