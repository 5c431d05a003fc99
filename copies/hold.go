package copies

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// holdTimeout bounds the wait for a place that hangs: a client waits for the answer of a question.
const holdTimeout = 3 * time.Second

// Hold makes sure that the copies of d, which is not pushed again but named anew, are there and stay: all its places
// that have it count it as used now. ErrTooFew: fewer nodes than a push must reach have it.
func (k *Keeper) Hold(ctx context.Context, d oci.Digest) error {
	places := k.parts.Farm.Places(d, k.cfg.Copies, true)
	has := make([]bool, len(places))
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	var g errgroup.Group
	for i, p := range places {
		g.Go(func() error {
			has[i] = k.heldBy(ctx, p, d)
			return nil
		})
	}
	_ = g.Wait()
	n := 0
	for _, is := range has {
		if is {
			n++
		}
	}
	if n < k.least() {
		return fmt.Errorf("hold %s: %w: %d of %d have it", d, ErrTooFew, n, len(places))
	}
	return nil
}

// Expect counts d, which is about to be put down here, as used now: a copy that was here before is not collected while
// it is found to be the same.
func (k *Keeper) Expect(d oci.Digest) { k.holds.mark(d) }

// heldBy asks one place to hold d. One that does not answer does not have it.
func (k *Keeper) heldBy(ctx context.Context, p Node, d oci.Digest) bool {
	if p.ID == k.cfg.Node {
		return k.keptHere(d)
	}
	c, err := k.client(p)
	if err != nil {
		return false
	}
	reply, err := c.Offer(ctx, &copiespb.OfferRequest{Digests: []string{d.String()}})
	return err == nil && len(reply.GetHave()) == 1
}
