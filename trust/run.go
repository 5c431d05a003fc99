package trust

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Run does a node's part in the farm's trust until ctx ends: it answers at the join door, renews the certificates in time,
// keeps the state that of the farm, writes what could not be written, and, on voters, takes the steps of rotations. On the first node of a farm it puts the
// authority into the catalog. Attach comes before.
func (t *Trust) Run(ctx context.Context) error {
	p, err := t.parts()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return t.tend(ctx, func(State) {
			if take(ctx, t.clerk.turn) == nil {
				defer func() { <-t.clerk.turn }()
				t.tell()
			}
		})
	})
	g.Go(func() error { return t.keep(ctx, p) })
	g.Go(func() error { return t.keepWritten(ctx) })
	if t.Mode() == Auto {
		g.Go(func() error { return t.staff(ctx, p) })
		g.Go(func() error { return t.keepRenewed(ctx) })
		g.Go(func() error { return t.keepDoor(ctx) })
		g.Go(func() error { return t.keepServing(ctx) })
	}
	return g.Wait()
}
