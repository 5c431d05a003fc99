package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/procfarm"
)

// memoryGoal is what a node may have at most, in MiB.
const memoryGoal = 128

const (
	swarmCount = 30
	swarmRate  = 300e6 // bytes a second, so that all swarms are at work together for some seconds
	stallTime  = 10 * time.Second
)

// measureMemory watches RssAnon of a node that many clients pull different cold blobs through.
func measureMemory(ctx context.Context, b *bench, s *sheet) error {
	large := s.line("8 clients, 8 cold blobs of 1 GiB", "MiB", atMost(memoryGoal), "")
	small := s.line("8 clients, 8 cold blobs of 128 MiB", "MiB", atMost(memoryGoal), "")
	flat := s.line("1 GiB blobs ÷ 128 MiB blobs", "", nil, "")
	bigSizes, smallSizes := layers(8, b.size(gib)), layers(8, b.size(128*mib))
	for range b.runs {
		before, err := b.coldMemory(ctx, 140, bigSizes)
		if err != nil {
			return err
		}
		after, err := b.coldMemory(ctx, 141, smallSizes)
		if err != nil {
			return err
		}
		large(before)
		small(after)
		flat(before / after)
	}
	// 8 GiB that nobody else needs.
	return b.forget(140, bigSizes...)
}

// measureSwarms watches RssAnon of the nodes of a farm that pulls many blobs at once.
func measureSwarms(ctx context.Context, b *bench, s *sheet) error {
	most := s.line("30 blobs of 32 MiB through both nodes of a farm of 2, the larger one", "MiB", atMost(memoryGoal), "")
	swarms := s.line("swarms at once that a node was seen with", "", nil, "")
	sizes := layers(swarmCount, b.size(32*mib))
	for range b.runs {
		peak, now, err := b.swarmMemory(ctx, sizes)
		if err != nil {
			return err
		}
		most(peak)
		swarms(float64(now))
	}
	return nil
}

// measureStalled watches RssAnon of a node whose only client has stopped reading.
func measureStalled(ctx context.Context, b *bench, s *sheet) error {
	most := s.line("a client that stops reading 1 GiB after 1 MiB", "MiB", atMost(memoryGoal), "")
	for range b.runs {
		peak, err := b.stalledMemory(ctx)
		if err != nil {
			return err
		}
		most(peak)
	}
	return nil
}

// coldMemory has as many clients as there are blobs pull one each through a new node, and returns its peak in MiB.
func (b *bench) coldMemory(ctx context.Context, seed uint64, sizes []int64) (most float64, err error) {
	image, err := b.image(seed, sizes...)
	if err != nil {
		return 0, err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, 1, h.URL(), "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	watch := watchMemory(ctx, f.pids()...)
	err = pullBlobs(ctx, image, f.Nodes[0])
	return watch.end(), err
}

// pullBlobs pulls each layer by a client of its own through each node, all at once.
func pullBlobs(ctx context.Context, image *images.Image, nodes ...*procfarm.Node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		for _, layer := range image.Layers {
			group.Go(func() error {
				c := newClient(n.Registry)
				defer c.close()
				_, err := c.blob(ctx, repo, layer.Digest.String())
				return err
			})
		}
	}
	return group.Wait()
}

// swarmMemory has both nodes of a farm pull many blobs at once. It returns the peak of the larger node in MiB, and how
// many swarms a node had at a time.
func (b *bench) swarmMemory(ctx context.Context, sizes []int64) (most float64, swarms int64, err error) {
	image, err := b.image(142, sizes...)
	if err != nil {
		return 0, 0, err
	}
	h, err := b.hub(swarmRate, image)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, 2, h.URL(), "")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	watch := watchMemory(ctx, f.pids()...)
	watching, stop := context.WithCancel(ctx)
	var group errgroup.Group
	var seen atomic.Int64
	group.Go(func() error {
		for watching.Err() == nil {
			for _, n := range f.Nodes {
				if s, err := n.Status(watching); err == nil {
					seen.Store(max(seen.Load(), int64(s.Swarms.Now)))
				}
			}
			wait(watching, 100*time.Millisecond)
		}
		return nil
	})
	err = pullBlobs(ctx, image, f.Nodes...)
	stop()
	_ = group.Wait()
	return watch.end(), seen.Load(), err
}

// wait sleeps unless ctx is done.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// stalledMemory has one client read a little of a cold blob and then nothing more.
func (b *bench) stalledMemory(ctx context.Context) (most float64, err error) {
	image, err := b.image(100, b.size(gib))
	if err != nil {
		return 0, err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, 1, h.URL(), "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	watch := watchMemory(ctx, f.pids()...)
	c := newClient(f.Nodes[0].Registry)
	defer c.close()
	r, err := c.ask(ctx, http.MethodGet, repo+"/blobs/"+image.Layers[0].Digest.String(), "")
	if err != nil {
		return watch.end(), err
	}
	defer func() { _ = r.Body.Close() }()
	if _, err := io.CopyN(io.Discard, r.Body, mib); err != nil {
		return watch.end(), fmt.Errorf("read a little: %w", err)
	}
	wait(ctx, stallTime)
	return watch.end(), ctx.Err()
}
