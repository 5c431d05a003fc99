package transfer

import (
	"slices"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// maxWaits bounds the chain of nodes that wait for each other of which a node tells, and maxTried the nodes without the
// blob.
const maxWaits, maxTried = 16, 16

// waits are the nodes that this one waits for to have a list, the nearest first, for those that wait for it.
func (t *task) waits() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != nil || t.at == "" {
		return nil
	}
	waits := append([]string{t.at}, t.path...)
	return waits[:min(len(waits), maxWaits)]
}

// circle breaks a circle of nodes each of which takes the next one for the meeting point, as they may while their views
// of the ring differ: the one with the lowest id goes on.
func (t *task) circle(at string, waits []string) error {
	me := t.e.cfg.Self.ID
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != nil {
		return nil
	}
	i := slices.Index(waits, me)
	if i < 0 {
		t.path = waits
		return nil
	}
	t.path = waits[:i+1]
	if min(at, slices.Min(t.path)) < me {
		return nil
	}
	return &redirectError{me}
}

// goesRound tells whether a node that registers has been here before and at the node that it would be sent to, too: as
// long as views of the ring differ it would be sent round and round. This node finds out itself who has the blob.
func (e *Engine) goesRound(q *transferpb.RegisterRequest, to string) bool {
	tried := q.GetTried()
	return to != q.GetNode().GetId() && slices.Contains(tried, to) && slices.Contains(tried, e.cfg.Self.ID)
}

// noteTried remembers a node that was named as a meeting point and sends on: it has no more than this one.
func (t *task) noteTried(id string) {
	t.e.holders.remove(t.digest, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != "" && !slices.Contains(t.tried, id) && len(t.tried) < maxTried {
		t.tried = append(t.tried, id)
	}
}

// hear takes up what a node that registers knows: who does not have the blob, and that it has a part of it itself.
func (h *holders) hear(d oci.Digest, q *transferpb.RegisterRequest) {
	h.remove(d, q.GetTried()[:min(len(q.GetTried()), maxTried)]...)
	if id := q.GetNode().GetId(); q.GetList() != nil && h.e.find(d) == nil {
		if _, ok := h.e.directory.Lookup(id); ok {
			h.partOf(d, id)
		}
	}
}
