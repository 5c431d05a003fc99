package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// announceTime is how long nodes get to tell owners what they hold, after all are in the ring.
const announceTime = 3 * time.Second

// heldFarm starts a farm whose first node holds the image, and has checked it, while the others have nothing.
func (b *bench) heldFarm(ctx context.Context, others int, h *hub.Hub, image *images.Image) (*farm, error) {
	dir, err := b.folder("held")
	if err != nil {
		return nil, err
	}
	// The holder fetches it as a farm of one; then it is started again among the others.
	if err := b.fill(ctx, dir, h, image); err != nil {
		return nil, errors.Join(err, b.drop(dir))
	}
	f, err := b.farmIn(ctx, dir, others+1, h.URL(), "")
	if err != nil {
		return nil, err
	}
	c := newClient(f.Nodes[0].Registry)
	defer c.close()
	if err := c.image(ctx, repo, tag, false); err != nil {
		return nil, errors.Join(fmt.Errorf("the holder: %w", err), f.close())
	}
	select {
	case <-time.After(announceTime):
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), f.close())
	}
	h.Reset()
	return f, nil
}

// fill has a node of its own pull the image into dir.
func (b *bench) fill(ctx context.Context, dir string, h *hub.Hub, image *images.Image) (err error) {
	f, err := b.farmIn(ctx, dir, 1, h.URL(), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Farm.Close()) }()
	c := newClient(f.Nodes[0].Registry)
	defer c.close()
	if err := c.image(ctx, repo, tag, false); err != nil {
		return err
	}
	return stored(ctx, f.Nodes[0], blobBytes(image))
}

func blobBytes(image *images.Image) int64 {
	var n int64
	for _, blob := range image.Blobs() {
		n += blob.Size
	}
	return n
}

// notAgain is an error when the stand-in was asked for bytes that a node holds.
func notAgain(h *hub.Hub) error {
	if n := h.Stats().BlobBytes; n > 0 {
		return fmt.Errorf("the farm fetched %d bytes again from the upstream, that one of its nodes holds", n)
	}
	return nil
}

// measureTransfer has a second node fetch a blob without a client: it is the other layer of an image of which a client
// asked for the configuration.
func measureTransfer(ctx context.Context, b *bench, s *sheet) error {
	both := s.line("both nodes, checking and disk write included", "CPU-s/GiB", atMost(2.0), "transport alone 1.0, SHA-256 0.6 to 0.8")
	sender := s.line("sender", "CPU-s/GiB", nil, "")
	receiver := s.line("receiver", "CPU-s/GiB", nil, "")
	speed := s.line("until it is safe on the receiver's disk", "GB/s", nil, "")
	plain := s.line("for comparison: writing as much to a file", "CPU-s/GiB", nil, "")
	image, err := b.image(120, b.size(gib))
	if err != nil {
		return err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return err
	}
	one := func() (err error) {
		f, err := b.heldFarm(ctx, 1, h, image)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.close()) }()
		write, err := b.warm(ctx, image.Layers[0].Size)
		if err != nil {
			return err
		}
		plain(write)
		before, err := cpuEach(ctx, f)
		if err != nil {
			return err
		}
		if err := b.memory.hold(ctx); err != nil { // what has become free while it was waited
			return err
		}
		wait := b.profiled(ctx, "transfer", f.Nodes...)
		defer wait()
		start := time.Now()
		c := newClient(f.Nodes[1].Registry)
		defer c.close()
		if _, err := c.manifest(ctx, repo, tag); err != nil {
			return err
		}
		if _, err := c.blob(ctx, repo, image.Config.Digest.String()); err != nil {
			return err
		}
		if err := stored(ctx, f.Nodes[1], blobBytes(image)); err != nil {
			return fmt.Errorf("the layer is not fetched ahead: %w", err)
		}
		took := time.Since(start)
		after, err := cpuEach(ctx, f)
		if err != nil {
			return err
		}
		size := gibs(blobBytes(image))
		sent, received := (after[0]-before[0]).Seconds()/size, (after[1]-before[1]).Seconds()/size
		both(sent + received)
		sender(sent)
		receiver(received)
		speed(perSecond(blobBytes(image), took))
		return notAgain(h)
	}
	for range b.runs {
		if err := one(); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	return h.Close()
}

// cpuEach waits until a farm is quiet and returns the processor time that each node has used.
func cpuEach(ctx context.Context, f *farm) ([]time.Duration, error) {
	pids := f.pids()
	if _, err := quiet(ctx, pids...); err != nil {
		return nil, err
	}
	used := make([]time.Duration, len(pids))
	for i, pid := range pids {
		var err error
		if used[i], err = cpuOf(pid); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// measureFarm has so many nodes take a blob that one other holds, all at once, each for a client of its own.
func measureFarm(nodes int) func(context.Context, *bench, *sheet) error {
	return func(ctx context.Context, b *bench, s *sheet) error {
		cost := s.line("all nodes, per GiB delivered", "CPU-s/GiB", atMostAim(2.2, 1.8), "Kraken 2.3 to 3.4")
		first := s.line("first byte of the slowest", "ms", below(50), "Kraken 3,500 to 13,000")
		speed := s.line("delivered to all clients together", "GB/s", nil, "")
		plain := s.line("for comparison: writing as much to a file", "CPU-s/GiB", nil, "")
		image, err := b.image(120, b.size(gib))
		if err != nil {
			return err
		}
		h, err := b.hub(0, image)
		if err != nil {
			return err
		}
		for range b.runs {
			p, err := b.farmPull(ctx, nodes, h, image)
			if err != nil {
				return errors.Join(err, h.Close())
			}
			cost(p.cost)
			first(millis(p.first))
			speed(p.speed)
			plain(p.plain)
		}
		return h.Close()
	}
}

func (b *bench) farmPull(ctx context.Context, nodes int, h *hub.Hub, image *images.Image) (p coldPull, err error) {
	f, err := b.heldFarm(ctx, nodes, h, image)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	blob := image.Layers[0]
	if p.plain, err = b.warm(ctx, blob.Size); err != nil {
		return p, err
	}
	before, err := quiet(ctx, f.pids()...)
	if err != nil {
		return p, err
	}
	if err := b.memory.hold(ctx); err != nil {
		return p, err
	}
	defer b.profiled(ctx, fmt.Sprintf("farm-%d", nodes), f.Nodes...)()
	start := time.Now()
	firsts := make([]time.Duration, nodes)
	group, groupCtx := errgroup.WithContext(ctx)
	for i, n := range f.Nodes[1:] {
		group.Go(func() error {
			c := newClient(n.Registry)
			defer c.close()
			t, err := c.blob(groupCtx, repo, blob.Digest.String())
			firsts[i] = t.first
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return p, err
	}
	p.took = time.Since(start)
	if err := f.allStored(ctx, blob.Size); err != nil {
		return p, err
	}
	after, err := quiet(ctx, f.pids()...)
	if err != nil {
		return p, err
	}
	for _, first := range firsts {
		p.first = max(p.first, first)
	}
	delivered := int64(nodes) * blob.Size
	p.served = served{perSecond(delivered, p.took), (after - before).Seconds() / gibs(delivered)}
	return p, notAgain(h)
}
