package transfer

import (
	"context"
	"fmt"
	"slices"

	"github.com/pullonce/pullonce/oci"
)

// maxAlone is how many blobs, and as many blocks, a node that can reach no other one reads from the upstream at once, so that a broken network
// does not become a stampede.
const maxAlone = 3

// mayGoAlone lets a node that can reach no other one go to the upstream itself for a blob, if it may, a few at a time.
// leave gives the place back.
func (e *Engine) mayGoAlone(ctx context.Context, d oci.Digest, lost []string) (leave func(), err error) {
	return e.goAlone(ctx, d, lost, e.alone)
}

// goAlone is mayGoAlone with the places that are to be had. Those for blocks are others than those for whole blobs, which
// are held for long.
func (e *Engine) goAlone(ctx context.Context, d oci.Digest, lost []string, places chan struct{}) (leave func(), err error) {
	for _, id := range e.others() {
		if !slices.Contains(lost, id) {
			return func() {}, nil
		}
	}
	if len(lost) == 0 {
		return func() {}, nil // a farm of one
	}
	if !e.cfg.UpstreamFallback {
		return nil, fmt.Errorf("get %s: no other node can be reached, and this one may not ask the upstream: %w", d, oci.ErrUnavailable)
	}
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	e.counters.fallbacks.Add(1)
	return func() { <-places }, nil
}

func (t *task) mayGoAlone(ctx context.Context, lost []string) (leave func(), err error) {
	return t.e.mayGoAlone(ctx, t.digest, lost)
}

// others are the ids of all other members of the ring.
func (e *Engine) others() []string {
	var ids []string
	for _, m := range e.directory.View().Members() {
		if m.ID != e.cfg.Self.ID {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
