package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/hub/realregistry"
	"github.com/pullonce/pullonce/internal/images"
)

// quiet waits until processes have done next to nothing for a while, and returns the processor time that they have used
// since they started.
func quiet(ctx context.Context, pids ...int) (time.Duration, error) {
	const pause = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	last, err := cpuOf(pids...)
	for err == nil {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return last, fmt.Errorf("processes %v do not come to rest: %w", pids, ctx.Err())
		}
		var now time.Duration
		// 2% of a core, and a tick each that rounding may add.
		if now, err = cpuOf(pids...); err == nil && now-last <= pause/50+time.Duration(len(pids))*clockTick {
			return now, nil
		}
		last = now
	}
	return 0, err
}

// A cache is something cold that pulls through from the stand-in.
type cache struct {
	url   string
	pid   int
	close func() error
}

func (b *bench) coldNode(ctx context.Context, h *hub.Hub) (*cache, error) {
	f, err := b.farm(ctx, 1, h.URL(), "")
	if err != nil {
		return nil, err
	}
	wait := b.profiled(ctx, "cold", f.Nodes[0])
	return &cache{f.Nodes[0].Registry, f.Nodes[0].PID(), func() error { wait(); return f.close() }}, nil
}

func (b *bench) coldDistribution(ctx context.Context, program string, h *hub.Hub) (*cache, error) {
	dir, err := b.folder("distribution")
	if err != nil {
		return nil, err
	}
	p, err := realregistry.Start(ctx, realregistry.Config{Program: program, Dir: dir, ProxyURL: h.URL()})
	if err != nil {
		return nil, errors.Join(err, b.drop(dir))
	}
	return &cache{p.URL(), p.PID(), func() error { p.Close(); return b.drop(dir) }}, nil
}

// A coldPull is what clients that pull one cold blob at once see, and what it costs.
type coldPull struct {
	served
	first    time.Duration
	took     time.Duration
	upstream float64 // bytes from the upstream ÷ the blob's
	plain    float64 // CPU-s per GiB of writing to a file just before
}

func (b *bench) pullCold(ctx context.Context, c *cache, h *hub.Hub, blob images.Blob, clients int) (p coldPull, err error) {
	defer func() { err = errors.Join(err, c.close()) }()
	h.Reset()
	if _, err := b.warm(ctx, blob.Size); err != nil {
		return p, err
	}
	before, err := quiet(ctx, c.pid)
	if err != nil {
		return p, err
	}
	if err := b.memory.hold(ctx); err != nil { // what has become free while it was waited
		return p, err
	}
	start := time.Now()
	firsts := make([]time.Duration, clients)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error {
			client := newClient(c.url)
			defer client.close()
			t, err := client.blob(groupCtx, repo, blob.Digest.String())
			firsts[i] = t.first
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return p, err
	}
	p.took = time.Since(start)
	after, err := quiet(ctx, c.pid)
	if err != nil {
		return p, err
	}
	for _, first := range firsts {
		p.first = max(p.first, first)
	}
	delivered := int64(clients) * blob.Size
	p.served = served{perSecond(delivered, p.took), (after - before).Seconds() / gibs(delivered)}
	p.upstream = float64(h.Stats().BlobBytes) / float64(blob.Size)
	return p, nil
}

// measureCold compares a node with distribution v3 as a pull-through cache, in turn, both new each time.
func measureCold(ctx context.Context, b *bench, s *sheet) (err error) {
	program, err := realregistry.Build(ctx, b.dir)
	if err != nil {
		return err
	}
	image, err := b.image(100, b.size(gib), b.size(256*mib))
	if err != nil {
		return err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, part := range []struct {
		name    string
		blob    images.Blob
		clients int
	}{{"1 client, 1 GiB", image.Layers[0], 1}, {"8 clients at once, 256 MiB", image.Layers[1], 8}} {
		l := coldLines(s, part.name)
		for range b.pairs() {
			c, err := b.coldNode(ctx, h)
			if err != nil {
				return err
			}
			node, err := b.pullCold(ctx, c, h, part.blob, part.clients)
			if err != nil {
				return fmt.Errorf("node: %w", err)
			}
			if c, err = b.coldDistribution(ctx, program, h); err != nil {
				return err
			}
			other, err := b.pullCold(ctx, c, h, part.blob, part.clients)
			if err != nil {
				return fmt.Errorf("distribution: %w", err)
			}
			l(node, other)
		}
	}
	return nil
}

// coldLines declares the lines of a comparison and returns what adds a pair to them.
func coldLines(s *sheet, name string) func(node, other coldPull) {
	speed := s.line("speed ÷ distribution's, "+name, "", above(1), "")
	cost := s.line("processor time ÷ distribution's, "+name, "", below(1), "")
	nodeSpeed := s.line("node, "+name, "GB/s", nil, "")
	otherSpeed := s.line("distribution v3, "+name, "GB/s", nil, "")
	nodeCost := s.line("node, "+name, "CPU-s/GiB", nil, "zot 4.1")
	otherCost := s.line("distribution v3, "+name, "CPU-s/GiB", nil, "2.1 for one client")
	nodeFirst := s.line("node, first byte of the slowest, "+name, "ms", nil, "")
	otherFirst := s.line("distribution v3, first byte of the slowest, "+name, "ms", nil, "")
	nodeBytes := s.line("node, bytes from the upstream ÷ unique, "+name, "", nil, "")
	otherBytes := s.line("distribution v3, bytes from the upstream ÷ unique, "+name, "", nil, "")
	return func(node, other coldPull) {
		speed(node.speed / other.speed)
		cost(node.cost / other.cost)
		nodeSpeed(node.speed)
		otherSpeed(other.speed)
		nodeCost(node.cost)
		otherCost(other.cost)
		nodeFirst(millis(node.first))
		otherFirst(millis(other.first))
		nodeBytes(node.upstream)
		otherBytes(other.upstream)
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
