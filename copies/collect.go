package copies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// namedBatch is how many digests the catalog is asked about at once.
const namedBatch = 1000

// maxWithout bounds what goes along with a dry run, so that it fits into a message. Beyond it a dry run counts too little.
const maxWithout = 20_000

// Collected is what a collection removed, or would have.
type Collected struct {
	Blobs int64
	Bytes int64
	Young int64 // blobs that are not named, and stay because they were used a short while ago
	Kept  int64 // blobs that are named
}

// Collect removes the hosted blobs here that the catalog does not name and that were not used within Config.Grace, nor
// has this node run for less. With dryRun it removes nothing and counts the same. With an error, be it that the catalog
// does not answer, the result is what was done by then. A blob that is pushed, offered or stored meanwhile stays. One
// collection runs at a time, others wait. A dry run takes the digests in without for ones that are not named any more.
func (k *Keeper) Collect(ctx context.Context, dryRun bool, without ...oci.Digest) (Collected, error) {
	select {
	case k.back.collect <- struct{}{}:
		defer func() { <-k.back.collect }()
	case <-ctx.Done():
		return Collected{}, fmt.Errorf("collect: %w", ctx.Err())
	}
	var all []blob
	k.parts.Store.EachHosted(func(d oci.Digest, size int64) bool {
		all = append(all, blob{d, size})
		return true
	})
	before := time.Now().Add(-k.cfg.Grace)
	var c Collected
	gone := make(map[oci.Digest]bool, len(without))
	for _, d := range without {
		gone[d] = dryRun
	}
	for some := range slices.Chunk(all, namedBatch) {
		if err := k.collectSome(ctx, some, before, dryRun, gone, &c); err != nil {
			return c, fmt.Errorf("collect: %w", err)
		}
	}
	return c, nil
}

func (k *Keeper) collectSome(ctx context.Context, some []blob, before time.Time, dryRun bool, gone map[oci.Digest]bool, c *Collected) error {
	digests := make([]oci.Digest, len(some))
	for i, b := range some {
		digests[i] = b.digest
	}
	named, err := k.named(ctx, digests)
	if err != nil {
		return err
	}
	for i, b := range some {
		if named[i] && !gone[b.digest] {
			c.Kept++
			continue
		}
		removed, err := k.remove(b.digest, before, dryRun)
		switch {
		case err != nil:
			return err
		case removed:
			c.Blobs++
			c.Bytes += b.size
		default:
			c.Young++
		}
	}
	return nil
}

// remove deletes a blob that was not used since before, and tells whether it did or, with dryRun, would have.
func (k *Keeper) remove(d oci.Digest, before time.Time, dryRun bool) (removed bool, err error) {
	err = k.holds.unused(d, before, func() error {
		info, err := k.parts.Store.Stat(d)
		if errors.Is(err, oci.ErrNotFound) || err == nil && (!info.Hosted || !info.LastUse.Before(before)) {
			return nil
		}
		if err != nil {
			return err
		}
		if !dryRun {
			err = k.parts.Store.Delete(d)
		}
		removed = err == nil
		return err
	})
	if removed && !dryRun && k.parts.Removed != nil {
		k.parts.Removed(d)
	}
	return removed, err
}

// named asks the catalog in batches that it takes.
func (k *Keeper) named(ctx context.Context, digests []oci.Digest) ([]bool, error) {
	out := make([]bool, 0, len(digests))
	for some := range slices.Chunk(digests, namedBatch) {
		named, err := k.parts.Catalog.Named(ctx, some)
		if err == nil && len(named) != len(some) {
			err = fmt.Errorf("%d answers to %d questions", len(named), len(some))
		}
		if err != nil {
			return nil, fmt.Errorf("ask the catalog what it names: %w", err)
		}
		out = append(out, named...)
	}
	return out, nil
}

// young tells whether d was used or stored so recently that its push may still be going on.
func (k *Keeper) young(d oci.Digest) bool {
	before := time.Now().Add(-k.cfg.Grace)
	if at, ok := k.holds.noted(d); ok && !at.Before(before) {
		return true
	}
	info, err := k.parts.Store.Stat(d)
	return err == nil && !info.LastUse.Before(before)
}

// noted is when d was used; false when that is not known.
func (t *touched) noted(d oci.Digest) (time.Time, bool) {
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.at[d]
	return u.last, ok
}

// Collect answers a peer on which somebody wants the farm tidied up.
func (s *server) Collect(ctx context.Context, q *copiespb.CollectRequest) (*copiespb.CollectReply, error) {
	without, err := parseDigests(q.GetWithout())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c, err := s.k.Collect(ctx, q.GetDryRun(), without...)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &copiespb.CollectReply{Blobs: c.Blobs, Bytes: c.Bytes, Young: c.Young, Kept: c.Kept}, nil
}

// CollectFarm has all members collect at once, and tells by their ids what came of it. With an error, the result is
// that of the members that could.
func (k *Keeper) CollectFarm(ctx context.Context, dryRun bool, without ...oci.Digest) (map[string]Collected, error) {
	var mu sync.Mutex
	all := make(map[string]Collected)
	err := k.everywhere(ctx, func(ctx context.Context, n Node) error {
		c, err := k.collectAt(ctx, n, dryRun, without)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			all[n.ID] = c
		}
		return err
	})
	return all, err
}

func (k *Keeper) collectAt(ctx context.Context, n Node, dryRun bool, without []oci.Digest) (Collected, error) {
	if n.ID == k.cfg.Node {
		return k.Collect(ctx, dryRun, without...)
	}
	client, err := k.client(n)
	if err != nil {
		return Collected{}, err
	}
	q := &copiespb.CollectRequest{DryRun: dryRun}
	for _, d := range without[:min(len(without), maxWithout)] {
		q.Without = append(q.Without, d.String())
	}
	r, err := client.Collect(ctx, q)
	if err != nil {
		return Collected{}, err
	}
	return Collected{Blobs: r.GetBlobs(), Bytes: r.GetBytes(), Young: r.GetYoung(), Kept: r.GetKept()}, nil
}
