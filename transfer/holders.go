package transfer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/ring"
)

const (
	// maxAnnounced is how many digests one message carries.
	maxAnnounced = 4096
	// maxHeldBy bounds what is remembered of one member.
	maxHeldBy = 1 << 20
	// partFor is how long a part of a blob counts after it was announced: nodes keep parts for about a day.
	partFor = 24 * time.Hour
	// settleWithin is how long an owner waits for members that do not announce, and keeps what another ring gave it.
	settleWithin = 30 * time.Second
	// pruneEvery is how often what nobody asks for any more is thrown away.
	pruneEvery = 10 * time.Second
)

// holders is what this node knows, as an owner, of who has which blob. All of it is soft: nodes announce anew when the
// ring or an owner's boot id changes.
type holders struct {
	e      *Engine
	teller *teller

	mu        sync.Mutex
	byDigest  map[oci.Digest][]string
	byNode    map[string]*spoken
	parts     map[oci.Digest]map[string]time.Time // who had a part when it announced, and until when that counts
	turn      uint64                              // counts what is said, so that what a round leaves out is found
	since     time.Time                           // of the ring as it is now
	ringHash  uint64
	isSettled bool
	pruned    uint64 // the ring by which entries were pruned last
	pruneAt   time.Time
}

// spoken is what one member has said.
type spoken struct {
	has   map[oci.Digest]uint64 // and when it said so, by holders.turn
	parts []oci.Digest
	begun uint64 // when its round began
	boot  string // its life, and the ring by which its last whole round counted
	ring  uint64
}

func newHolders(e *Engine) *holders {
	h := &holders{
		e: e, byDigest: make(map[oci.Digest][]string), byNode: make(map[string]*spoken),
		parts: make(map[oci.Digest]map[string]time.Time), since: time.Now(),
	}
	h.teller = newTeller(e)
	return h
}

// of is a live node that has the whole blob, or "".
func (h *holders) of(d oci.Digest, lost []string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.byDigest[d] {
		if id == h.e.cfg.Self.ID || slices.Contains(lost, id) {
			continue
		}
		if _, ok := h.e.directory.Lookup(id); ok {
			return id
		}
	}
	return ""
}

// onItsWay tells whether another node has, or was fetching, a part of d when it announced, so that it must be asked for.
func (h *holders) onItsWay(d oci.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, until := range h.parts[d] {
		if time.Now().Before(until) {
			return true
		}
		h.dropPart(d, id)
	}
	return false
}

// partOf notes that a node has a part of d.
func (h *holders) partOf(d oci.Digest, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.node(id)
	if _, ok := h.parts[d][id]; !ok {
		if len(s.parts) >= maxAnnounced {
			return
		}
		s.parts = append(s.parts, d)
	}
	h.notePart(d, id)
}

// notePart and dropPart keep parts. The caller holds mu.
func (h *holders) notePart(d oci.Digest, id string) {
	if h.parts[d] == nil {
		h.parts[d] = make(map[string]time.Time)
	}
	h.parts[d][id] = time.Now().Add(partFor)
}

func (h *holders) dropPart(d oci.Digest, id string) {
	if delete(h.parts[d], id); len(h.parts[d]) == 0 {
		delete(h.parts, d)
	}
}

// node is the record of a member; it is made if need be. The caller holds mu.
func (h *holders) node(id string) *spoken {
	s := h.byNode[id]
	if s == nil {
		s = &spoken{has: make(map[oci.Digest]uint64)}
		h.byNode[id] = s
	}
	return s
}

func (h *holders) add(d oci.Digest, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.put(d, id)
}

// put notes a holder. The caller holds mu.
func (h *holders) put(d oci.Digest, id string) {
	s := h.node(id)
	if _, ok := s.has[d]; !ok && len(s.has) >= maxHeldBy {
		return
	}
	h.turn++
	s.has[d] = h.turn
	h.dropPart(d, id)
	if !slices.Contains(h.byDigest[d], id) {
		h.byDigest[d] = append(h.byDigest[d], id)
	}
}

func (h *holders) remove(d oci.Digest, ids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.take(d, id)
	}
}

// take forgets a holder. The caller holds mu.
func (h *holders) take(d oci.Digest, id string) {
	if s := h.byNode[id]; s != nil {
		delete(s.has, d)
	}
	h.byDigest[d] = slices.DeleteFunc(h.byDigest[d], func(have string) bool { return have == id })
	if len(h.byDigest[d]) == 0 {
		delete(h.byDigest, d)
	}
}

// stored notes a blob that this node has from now on, or no longer; its owner is told soon.
func (h *holders) stored(d oci.Digest) { h.teller.note(d) }

// Dropped hears that the store no longer has a blob; its owner is told soon.
func (e *Engine) Dropped(d oci.Digest) { e.holders.teller.note(d) }

// run tells the owners what this node has, now and whenever the ring or an owner changes, until ctx is done.
func (h *holders) run(ctx context.Context) { h.teller.run(ctx) }

// settled tells whether every member has said what it has since the ring became what it is, or has had time to.
func (h *holders) settled() bool {
	others, hash := h.e.directory.Others(), h.e.directory.View().Hash()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.see(hash)
	if h.isSettled {
		return true
	}
	if time.Since(h.since) < settleWithin {
		for _, n := range others {
			if s := h.byNode[n.ID]; s == nil || s.boot != n.Boot || s.ring != hash {
				return false
			}
		}
	}
	h.isSettled = true
	return true
}

// see notes the ring; another ring has to settle anew. The caller holds mu.
func (h *holders) see(hash uint64) {
	if hash != h.ringHash {
		h.ringHash, h.since, h.isSettled = hash, time.Now(), false
	}
}

// prune throws away what was said by members that have left, and, once the ring has been calm for a while, what others
// own now.
func (h *holders) prune(view *ring.View) {
	h.mu.Lock()
	h.see(view.Hash())
	now := time.Now()
	if now.Before(h.pruneAt) {
		h.mu.Unlock()
		return
	}
	h.pruneAt = now.Add(pruneEvery)
	ids := make([]string, 0, len(h.byNode))
	for id := range h.byNode {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	left := slices.DeleteFunc(ids, func(id string) bool {
		_, ok := h.e.directory.Lookup(id)
		return ok
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range left {
		h.forget(id)
	}
	h.dropOld(now)
	if h.ringHash == h.pruned || now.Sub(h.since) < settleWithin {
		return
	}
	h.pruned = h.ringHash
	for d, ids := range h.byDigest {
		if !h.mine(view, d) {
			for _, id := range slices.Clone(ids) {
				h.take(d, id)
			}
		}
	}
	for d := range h.parts {
		if !h.mine(view, d) {
			delete(h.parts, d)
		}
	}
}

// dropOld throws away the parts that no longer count. The caller holds mu.
func (h *holders) dropOld(now time.Time) {
	for d, by := range h.parts {
		for id, until := range by {
			if now.After(until) {
				h.dropPart(d, id)
			}
		}
	}
	for id, s := range h.byNode {
		s.parts = slices.DeleteFunc(s.parts, func(d oci.Digest) bool {
			_, counts := h.parts[d][id]
			return !counts
		})
	}
}

// mine tells whether this node owns d, for the farm or for its zone.
func (h *holders) mine(view *ring.View, d oci.Digest) bool {
	me := h.e.cfg.Self
	return view.Owner(d) == me.ID || view.ZoneOwner(d, me.Zone) == me.ID
}

// forget drops all that a node has said. The caller holds mu.
func (h *holders) forget(id string) {
	s := h.byNode[id]
	if s == nil {
		return
	}
	for d := range s.has {
		h.take(d, id)
	}
	for _, d := range s.parts {
		h.dropPart(d, id)
	}
	delete(h.byNode, id)
}

// Announce takes in what a member has of the blobs that this node owns. The reply carries the ring's hash as this node
// sees it; nothing is taken from one that is not known to be a member, and the reply then carries none.
func (e *Engine) Announce(ctx context.Context, q *transferpb.AnnounceRequest) (*transferpb.AnnounceReply, error) {
	if err := peerid.Check(ctx, q.GetNode()); err != nil {
		return nil, err
	}
	id, hash := q.GetNode(), e.directory.View().Hash()
	if _, ok := e.directory.Lookup(id); !ok {
		return &transferpb.AnnounceReply{}, nil
	}
	e.lost.remove(id)
	e.directory.Observe(id, q.GetRingHash())
	h := e.holders
	digests, dropped, parts := parseDigests(q.GetDigests()), parseDigests(q.GetDropped()), parseDigests(q.GetFetching())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.see(hash)
	s := h.node(id)
	if q.GetFirst() {
		h.turn++
		s.begun = h.turn
	}
	for _, d := range digests {
		h.put(d, id)
	}
	for _, d := range dropped {
		h.take(d, id)
		h.dropPart(d, id)
	}
	if q.GetFinal() {
		h.finish(id, s, parts)
		if q.GetRingHash() == hash {
			s.boot, s.ring = q.GetBoot(), hash
		}
	}
	return &transferpb.AnnounceReply{RingHash: hash}, nil
}

// finish ends a round in which a node has said all that it has: the rest it has no longer. The caller holds mu.
func (h *holders) finish(id string, s *spoken, parts []oci.Digest) {
	for d, said := range s.has {
		if said < s.begun {
			h.take(d, id)
		}
	}
	for _, d := range s.parts {
		h.dropPart(d, id)
	}
	s.parts = parts
	for _, d := range parts {
		h.notePart(d, id)
	}
}

// parseDigests reads what a peer listed, as far as it makes sense and is not too much.
func parseDigests(texts []string) []oci.Digest {
	out := make([]oci.Digest, 0, min(len(texts), maxAnnounced))
	for _, text := range texts[:min(len(texts), maxAnnounced)] {
		if d, err := oci.ParseDigest(text); err == nil {
			out = append(out, d)
		}
	}
	return out
}
