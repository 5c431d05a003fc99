package node

import (
	"context"
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// leases are the catalog's, for as long as they are needed: they keep two nodes that both take themselves for the owner
// from reading a blob twice, and while all members go by one ring there are no two. To take one costs two syncs of a
// disk, behind whatever else is written there, and a client waits for it.
type leases struct {
	n *Node

	mu    sync.Mutex
	taken map[oci.Digest]struct{}
}

func newLeases(n *Node) *leases { return &leases{n: n, taken: make(map[oci.Digest]struct{})} }

// Lease implements transfer.Lease.
func (l *leases) Lease(ctx context.Context, d oci.Digest) (holder string, err error) {
	l.mu.Lock()
	_, held := l.taken[d]
	l.mu.Unlock()
	if !held && l.n.directory.agreed() {
		return l.n.id, nil
	}
	holder, err = l.n.catalog.Lease(ctx, d)
	if err == nil && holder == l.n.id {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.taken[d] = struct{}{}
	}
	return holder, err
}

// Release implements transfer.Lease.
func (l *leases) Release(ctx context.Context, d oci.Digest) error {
	l.mu.Lock()
	_, held := l.taken[d]
	delete(l.taken, d)
	l.mu.Unlock()
	if !held {
		return nil
	}
	return l.n.catalog.Release(ctx, d)
}
