package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// Lease takes the lease of a blob for this node, and returns the node that holds it now. The error is ErrSkipped when
// leases are not to be had: after one time-out none is asked for during Config.LeaseSkip, since a pull must not wait
// for the catalog.
func (c *Catalog) Lease(ctx context.Context, d oci.Digest) (holder string, err error) {
	c.mu.Lock()
	skip := time.Now().Before(c.skipTo)
	c.mu.Unlock()
	if skip {
		return "", ErrSkipped
	}
	if rt := c.route(); rt.leader == "" && c.current() == nil {
		return "", fmt.Errorf("%w: no catalog", ErrSkipped)
	}
	r, err := c.applyWithin(ctx, Command{Do: TakeLease{Digest: d, Node: c.cfg.Node, TTL: c.cfg.LeaseTTL}}, kindLease, c.cfg.LeaseWait)
	switch {
	case err == nil && r.Err == nil:
		return r.Holder, nil
	case err == nil:
		return "", fmt.Errorf("take lease of %s: %w", d, r.Err)
	case ctx.Err() != nil:
		return "", context.Cause(ctx) // it is the caller that has no time
	case errors.Is(err, ErrNoQuorum):
		c.mu.Lock()
		c.skipTo = time.Now().Add(c.cfg.LeaseSkip)
		c.mu.Unlock()
	}
	return "", fmt.Errorf("%w: %w", ErrSkipped, err)
}

// Release gives a lease back. What is not given back ends by itself.
func (c *Catalog) Release(ctx context.Context, d oci.Digest) error {
	c.mu.Lock()
	skip := time.Now().Before(c.skipTo)
	c.mu.Unlock()
	if skip {
		return ErrSkipped
	}
	_, err := c.applyWithin(ctx, Command{Do: ReleaseLease{Digest: d, Node: c.cfg.Node}}, kindLease, c.cfg.LeaseWait)
	return err
}
