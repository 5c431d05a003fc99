package transfer

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/ring"
)

const (
	// maxAnnounced is how many digests one message carries.
	maxAnnounced = 4096
	// announceEvery is how often new holdings are told to their owners, and how often the owners are looked at.
	announceEvery = 500 * time.Millisecond
	// announceTimeout bounds one message.
	announceTimeout = 3 * time.Second
	// fetchingFor is how long a blob counts as on its way after it was announced so.
	fetchingFor = 10 * time.Minute
	// settleWithin is how long an owner waits for members that do not announce.
	settleWithin = 30 * time.Second
)

// holders is what this node knows, as an owner, of who has which blob, and what it must tell others. All of it is soft:
// nodes announce anew when the ring or an owner's boot id changes.
type holders struct {
	e    *Engine
	kick chan struct{}

	mu        sync.Mutex
	byDigest  map[oci.Digest][]string
	fetching  map[oci.Digest]time.Time // blobs that others were fetching when they announced, until when that counts
	announced map[string]string        // who has announced all it has to this node, with its boot id
	fresh     []oci.Digest             // stored here and not told yet
	told      map[string]told          // owners that have heard all, by id
	since     time.Time                // of the ring as it is now
	ringHash  uint64
	isSettled bool
}

// told is what an owner has heard: all that it owned on this ring, in this life of its.
type told struct {
	boot string
	ring uint64
}

func newHolders(e *Engine) *holders {
	return &holders{
		e: e, kick: make(chan struct{}, 1), byDigest: make(map[oci.Digest][]string), fetching: make(map[oci.Digest]time.Time),
		announced: make(map[string]string), told: make(map[string]told), since: time.Now(),
	}
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

// onItsWay tells whether another node was fetching d when this one became its owner, so that it must be asked for.
func (h *holders) onItsWay(d oci.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.fetching[d]
	if ok && time.Now().After(until) {
		delete(h.fetching, d)
		return false
	}
	return ok
}

func (h *holders) noteFetching(digests []oci.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for d, until := range h.fetching {
		if time.Now().After(until) {
			delete(h.fetching, d)
		}
	}
	for _, d := range digests {
		h.fetching[d] = time.Now().Add(fetchingFor)
	}
}

func (h *holders) remove(d oci.Digest, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byDigest[d] = slices.DeleteFunc(h.byDigest[d], func(have string) bool { return have == id })
	if len(h.byDigest[d]) == 0 {
		delete(h.byDigest, d)
	}
}

func (h *holders) add(d oci.Digest, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.byDigest[d], id) {
		h.byDigest[d] = append(h.byDigest[d], id)
	}
}

// stored notes a blob that this node has from now on; its owner is told soon.
func (h *holders) stored(d oci.Digest) {
	h.mu.Lock()
	h.fresh = append(h.fresh, d)
	h.mu.Unlock()
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// settled tells whether every member has said what it has since the ring became what it is, or has had time to.
func (h *holders) settled() bool {
	others := h.e.directory.Others()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.see(h.e.directory.View().Hash())
	if h.isSettled {
		return true
	}
	for _, n := range others {
		if boot, ok := h.announced[n.ID]; !ok || boot != n.Boot {
			if time.Since(h.since) < settleWithin {
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
		clear(h.announced)
	}
}

// run tells the owners what this node has, now and whenever the ring or an owner changes.
func (h *holders) run(ctx context.Context) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		h.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-h.kick:
		}
	}
}

// round tells each owner what it has not heard.
func (h *holders) round(ctx context.Context) {
	view := h.e.directory.View()
	h.mu.Lock()
	h.see(view.Hash())
	fresh := h.fresh
	h.fresh = nil
	h.mu.Unlock()
	perOwner := make(map[string][]oci.Digest)
	for _, d := range fresh {
		owner := view.Owner(d)
		perOwner[owner] = append(perOwner[owner], d)
	}
	others := h.e.directory.Others()
	h.e.forgetStrangers(others, view)
	for owner, digests := range perOwner {
		if owner != h.e.cfg.Self.ID && !slices.ContainsFunc(others, func(n Node) bool { return n.ID == owner }) {
			h.again(digests, false) // it is told when it is back
		}
	}
	for _, n := range others {
		all := h.mustHearAll(n, view.Hash())
		digests := perOwner[n.ID]
		if all {
			digests = h.ownedBy(n.ID)
		} else if len(digests) == 0 {
			continue
		}
		if err := h.announce(ctx, n, digests, view.Hash(), all); err != nil {
			h.e.log.Debug("holdings not announced", slog.String("peer", n.ID), slog.Any("error", err))
			h.again(digests, all)
			continue
		}
		if all {
			h.mu.Lock()
			h.told[n.ID] = told{n.Boot, view.Hash()}
			h.mu.Unlock()
		}
	}
}

// forgetStrangers closes the connections to nodes that are neither there nor have a place in the ring.
func (e *Engine) forgetStrangers(others []Node, view *ring.View) {
	known := make(map[string]bool)
	for _, n := range others {
		known[n.Address] = true
	}
	for _, m := range view.Members() {
		if n, ok := e.directory.Lookup(m.ID); ok {
			known[n.Address] = true
		}
	}
	e.peers.forget(func(address string) bool { return known[address] })
}

// again keeps what an owner could not be told for the next round; who must hear all will hear it then anyway.
func (h *holders) again(digests []oci.Digest, all bool) {
	if all {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fresh = append(h.fresh, digests...)
}

func (h *holders) mustHearAll(n Node, ring uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[n.ID] != told{n.Boot, ring}
}

// ownedBy are the blobs here that a node owns.
func (h *holders) ownedBy(id string) []oci.Digest {
	view := h.e.directory.View()
	var digests []oci.Digest
	h.e.store.Each(func(d oci.Digest, _ int64) bool {
		if view.Owner(d) == id {
			digests = append(digests, d)
		}
		return true
	})
	return digests
}

// announce tells one owner, in as many messages as it takes.
func (h *holders) announce(ctx context.Context, n Node, digests []oci.Digest, ring uint64, all bool) error {
	p, err := h.e.peers.to(n.Address)
	if err != nil {
		return err
	}
	me := h.e.cfg.Self
	for {
		part := digests[:min(len(digests), maxAnnounced)]
		digests = digests[len(part):]
		q := &transferpb.AnnounceRequest{Node: me.ID, Boot: me.Boot, RingHash: ring, Final: all && len(digests) == 0}
		for _, d := range part {
			q.Digests = append(q.Digests, d.String())
		}
		if q.GetFinal() {
			q.Fetching = h.fetchingFor(n.ID)
		}
		callCtx, cancel := context.WithTimeout(ctx, announceTimeout)
		_, err := p.Announce(callCtx, q)
		cancel()
		if err != nil || len(digests) == 0 {
			return err
		}
	}
}

// fetchingFor are the blobs on their way to this node that another one owns.
func (h *holders) fetchingFor(owner string) []string {
	view := h.e.directory.View()
	var out []string
	for _, t := range h.e.all() {
		if !t.isComplete() && view.Owner(t.digest) == owner && len(out) < maxAnnounced {
			out = append(out, t.digest.String())
		}
	}
	return out
}

// Announce takes in what a member has of the blobs that this node owns.
func (e *Engine) Announce(_ context.Context, q *transferpb.AnnounceRequest) (*transferpb.AnnounceReply, error) {
	for _, d := range parseDigests(q.GetDigests()) {
		e.holders.add(d, q.GetNode())
	}
	e.lost.remove(q.GetNode())
	e.directory.Observe(q.GetNode(), q.GetRingHash())
	h := e.holders
	h.noteFetching(parseDigests(q.GetFetching()))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.see(e.directory.View().Hash())
	if q.GetFinal() && q.GetRingHash() == h.ringHash {
		h.announced[q.GetNode()] = q.GetBoot()
	}
	return &transferpb.AnnounceReply{Boot: e.cfg.Self.Boot}, nil
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
