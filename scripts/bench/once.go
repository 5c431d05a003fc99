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

const onceNodes = 8

// measureOnce counts what the stand-in writes to sockets while 8 nodes pull at once, all cold.
func measureOnce(ctx context.Context, b *bench, s *sheet) error {
	for _, part := range []struct {
		name  string
		seed  uint64
		sizes []int64
	}{
		{"1 layer of 1 GiB", 100, []int64{b.size(gib)}},
		{"10 layers of 100 MiB", 101, layers(10, b.size(100*mib))},
	} {
		ratio := s.line("bytes written by the upstream ÷ unique, "+part.name, "", below(1.002), "")
		last := s.line("until the last of 8 has it, "+part.name, "s", nil, "")
		image, err := b.image(part.seed, part.sizes...)
		if err != nil {
			return err
		}
		for range b.runs {
			h, err := b.hub(0, image)
			if err != nil {
				return err
			}
			took, err := b.pullAll(ctx, h, onceNodes, image.UniqueBytes())
			written := h.Stats().SocketBytes
			if err := errors.Join(err, h.Close()); err != nil {
				return err
			}
			ratio(float64(written) / float64(image.UniqueBytes()))
			last(took.Seconds())
		}
	}
	return nil
}

func layers(n int, size int64) []int64 {
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// pullAll has a new farm pull the stand-in's image at once, half of the clients as docker does, half as podman.
func (b *bench) pullAll(ctx context.Context, h *hub.Hub, nodes int, unique int64) (_ time.Duration, err error) {
	f, err := b.farm(ctx, nodes, h.URL(), "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	wait := b.profiled(ctx, fmt.Sprintf("once-%d", unique>>20), f.Nodes...)
	defer wait()
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, n := range f.Nodes {
		group.Go(func() error {
			c := newClient(n.Registry)
			defer c.close()
			err := c.image(ctx, repo, tag, i%2 == 0)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// measureManifestCount counts manifest GETs at the stand-in for one tag that 8 nodes pull at once.
func measureManifestCount(ctx context.Context, b *bench, s *sheet) error {
	one, err := b.image(110, 1*mib)
	if err != nil {
		return err
	}
	other, err := b.image(111, 1*mib)
	if err != nil {
		return err
	}
	index, err := images.Index(one, other)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		image *images.Image
		want  float64
	}{{"a tag of one platform", one, 1}, {"a multi-platform tag", index, 2}} {
		gets := s.line("manifest GETs at the upstream, "+part.name, "", exactly(part.want), "")
		heads := s.line("manifest HEADs (not counted by Hub), "+part.name, "", nil, "")
		for range b.runs {
			h, err := b.hub(0, part.image)
			if err != nil {
				return err
			}
			_, err = b.pullAll(ctx, h, onceNodes, one.UniqueBytes())
			stats := h.Stats()
			if err := errors.Join(err, h.Close()); err != nil {
				return err
			}
			gets(float64(stats.ManifestGets))
			heads(float64(stats.ManifestHeads))
		}
	}
	return nil
}
