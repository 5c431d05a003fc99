package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
)

const (
	// tagsPerRepository of those that fill a catalog; each tag has a manifest, a config and a layer of its own.
	tagsPerRepository = 10
	// fillers are how many push at once.
	fillers = 64
	// fillTries is how often a command is tried that no leader answers in time, on a machine that has more to do.
	fillTries = 20
)

// A filler puts repositories with their tags into a catalog.
type filler struct {
	catalog *catalog.Catalog

	mu      sync.Mutex
	slowest time.Duration
}

// fill returns how long the slowest command took.
func fill(ctx context.Context, c *catalog.Catalog, o voterOrder) (time.Duration, error) {
	f := &filler{catalog: c}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fillers)
	for r := o.From; r < o.From+o.Count; r++ {
		group.Go(func() error { return f.repository(ctx, r) })
	}
	err := group.Wait()
	return f.slowest, err
}

func (f *filler) do(ctx context.Context, do catalog.Action) error {
	began := time.Now()
	err := catalog.ErrNoQuorum
	for try := 0; try < fillTries && errors.Is(err, catalog.ErrNoQuorum); try++ {
		err = apply(ctx, f.catalog, do) // doing it twice does no harm
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slowest = max(f.slowest, time.Since(began))
	return err
}

func (f *filler) repository(ctx context.Context, r int) error {
	name := fmt.Sprintf("team-%d/service-%d", r%100, r)
	shared := []oci.Digest{someDigest(fmt.Sprint("base", r%50)), someDigest(fmt.Sprint("runtime", r))}
	for _, d := range shared {
		if err := f.do(ctx, catalog.LinkBlob{Repository: name, Digest: d, Size: 50 << 20}); err != nil {
			return err
		}
	}
	for i := range tagsPerRepository {
		text := fmt.Sprint(r, "/", i)
		config, layer := someDigest("config"+text), someDigest("layer"+text)
		put := catalog.PutManifest{
			Repository: name, Blobs: []oci.Digest{shared[0], shared[1], config, layer}, Tags: []string{fmt.Sprintf("v1.%d.0", i)},
			Descriptor: oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: someDigest(text), Size: 1200},
		}
		for _, do := range []catalog.Action{
			catalog.LinkBlob{Repository: name, Digest: config, Size: 2000},
			catalog.LinkBlob{Repository: name, Digest: layer, Size: 5 << 20},
			put,
		} {
			if err := f.do(ctx, do); err != nil {
				return err
			}
		}
	}
	return nil
}
