package transfer

import (
	"context"
	"slices"

	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// Droppable are those of the digests that this node may evict because another node holds them too; what it may is
// taken for dropped. An owner that cannot be asked has no objection: the blobs are a cache.
func (e *Engine) Droppable(ctx context.Context, digests []oci.Digest) []oci.Digest {
	view := e.directory.View()
	byOwner := make(map[string][]oci.Digest)
	for _, d := range digests {
		owner := view.Owner(d)
		byOwner[owner] = append(byOwner[owner], d)
	}
	var may []oci.Digest
	for owner, owned := range byOwner {
		may = append(may, e.droppableAt(ctx, owner, owned)...)
	}
	return may
}

func (e *Engine) droppableAt(ctx context.Context, owner string, digests []oci.Digest) []oci.Digest {
	if owner == "" || owner == e.cfg.Self.ID {
		return e.holders.release(e.cfg.Self.ID, digests)
	}
	node, ok := e.directory.Lookup(owner)
	if !ok {
		return digests
	}
	p, err := e.peers.to(node.Address)
	if err != nil {
		return digests
	}
	q := &transferpb.MayDropRequest{Node: e.cfg.Self.ID}
	for _, d := range digests {
		q.Digests = append(q.Digests, d.String())
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	reply, err := p.MayDrop(ctx, q)
	if err != nil {
		return digests
	}
	return slices.DeleteFunc(slices.Clone(digests), func(d oci.Digest) bool {
		return !slices.Contains(reply.GetDigests(), d.String())
	})
}

// MayDrop answers a holder that wants to evict blobs that this node owns.
func (e *Engine) MayDrop(ctx context.Context, q *transferpb.MayDropRequest) (*transferpb.MayDropReply, error) {
	if err := peerid.Check(ctx, q.GetNode()); err != nil {
		return nil, err
	}
	r := &transferpb.MayDropReply{}
	for _, d := range e.holders.release(q.GetNode(), parseDigests(q.GetDigests())) {
		r.Digests = append(r.Digests, d.String())
	}
	return r, nil
}

// release lets a node drop those blobs that another live node holds, and counts it no longer among their holders, so
// that two holders never drop together. The owner itself is a holder when its store has the blob.
func (h *holders) release(id string, digests []oci.Digest) []oci.Digest {
	h.mu.Lock()
	defer h.mu.Unlock()
	var may []oci.Digest
	for _, d := range digests {
		if !h.heldBeside(d, id) {
			continue
		}
		may = append(may, d)
		h.take(d, id)
	}
	return may
}

// heldBeside tells whether a live node other than id holds d. The caller holds mu.
func (h *holders) heldBeside(d oci.Digest, id string) bool {
	for _, other := range h.byDigest[d] {
		if other == id {
			continue
		}
		if _, ok := h.e.directory.Lookup(other); ok {
			return true
		}
	}
	if id == h.e.cfg.Self.ID {
		return false
	}
	_, err := h.e.store.Stat(d)
	return err == nil
}
