package copies

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/oci"
)

const (
	lookEvery   = time.Second     // how often the ring, the nodes that are up and what is hosted are looked at
	soon        = 3 * time.Second // within which a node is compared with that is new, or by a new ring
	soonEach    = 100 * time.Millisecond
	otherRing   = 5 * time.Second // after which one is asked again that went by another ring
	comparing   = 8               // comparisons at once
	comparedPer = 16              // nodes that are compared with in one CompareEvery, so that an idle farm of any size is quiet
)

// background is the state of what runs by itself.
type background struct {
	plan    atomic.Pointer[plan] // nil before the first look
	kick    chan struct{}        // there is something to send or to unmark
	collect chan struct{}        // taken by the one collection that may run

	repairing               atomic.Int64
	repaired, repairedBytes atomic.Int64

	mu       sync.Mutex
	peers    map[string]*peer         // by the nodes with which there is something to compare
	gone     map[string]time.Time     // places that are down, and since when
	garbage  map[oci.Digest]time.Time // what the catalog did not name, and until when that is believed
	queue    []*job                   // the most endangered first
	strays   []oci.Digest             // that are wherever they belong, which is not here
	flying   map[flight]bool
	below    int
	dirty    bool // what is known has changed since the last assessment
	assessed time.Time
}

// A peer is what is known of another node.
type peer struct {
	ring  uint64
	next  time.Time // to be compared with then
	busy  bool
	known bool      // it was compared with by this ring
	rest  time.Time // it is sent nothing before
	found *finding
}

func (k *Keeper) startBackground() {
	k.back.kick = make(chan struct{}, 1)
	k.back.collect = make(chan struct{}, 1)
	k.back.peers = make(map[string]*peer)
	k.back.gone = make(map[string]time.Time)
	k.back.garbage = make(map[oci.Digest]time.Time)
	k.back.flying = make(map[flight]bool)
}

// loops are what Run does at once, each until its context ends.
func (k *Keeper) loops() []func(context.Context) error {
	return []func(context.Context) error{k.watch, k.mend, k.refreshNotes}
}

// watch compares with other nodes when their time has come: soon when one is new or the ring has changed, and else
// every CompareEvery, spread out.
func (k *Keeper) watch(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(comparing)
	defer func() { _ = g.Wait() }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		k.look(ctx, &g)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look does once what watch does.
func (k *Keeper) look(ctx context.Context, g *errgroup.Group) {
	old := k.back.plan.Load()
	p := k.planNow(old)
	if p != old {
		k.back.plan.Store(p)
		k.noteGone(p)
	}
	for _, id := range k.due(p) {
		if !g.TryGo(func() error { k.compareWith(ctx, p, id); return nil }) {
			k.notCompared(id)
		}
	}
	if k.assessNow(p != old) {
		k.assess(p)
	}
}

// due are the nodes to compare with now. They are busy from here on.
func (k *Keeper) due(p *plan) []string {
	b := &k.back
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	wait := max(soon, time.Duration(len(p.shares))*soonEach)
	var due []string
	for id, s := range p.shares {
		if s.node.ID == "" || len(s.both)+len(s.other) == 0 {
			delete(b.peers, id)
			continue
		}
		v := b.peers[id]
		if v == nil {
			v = &peer{ring: p.ring, next: now.Add(rand.N(wait))}
			b.peers[id] = v
		}
		if v.ring != p.ring {
			v.ring, v.known, v.next = p.ring, false, now.Add(rand.N(wait))
			if v.found != nil { // what it lacks it still lacks; the sums were of other partitions
				v.found = &finding{differ: v.found.differ}
			}
		}
		if !v.busy && !now.Before(v.next) {
			v.busy = true
			due = append(due, id)
		}
	}
	for id := range b.peers {
		if p.shares[id] == nil {
			delete(b.peers, id)
		}
	}
	slices.SortFunc(due, func(x, y string) int { return b.peers[x].next.Compare(b.peers[y].next) })
	return due
}

func (k *Keeper) notCompared(id string) {
	k.back.mu.Lock()
	defer k.back.mu.Unlock()
	k.back.peers[id].busy = false
}

// compareWith compares with one node and notes what came of it.
func (k *Keeper) compareWith(ctx context.Context, p *plan, id string) {
	b := &k.back
	b.mu.Lock()
	v := b.peers[id]
	if v == nil {
		b.mu.Unlock()
		return
	}
	old := v.found
	b.mu.Unlock()
	found, err := k.compare(ctx, p, p.shares[id], old)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errOtherRing) {
		k.log.Debug("copies not compared", slog.String("peer", id), slog.String("error", err.Error()))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v.busy = false
	v.next = time.Now().Add(k.interval(len(b.peers)))
	switch {
	case v.ring != p.ring: // it changed meanwhile
		v.next = time.Now().Add(rand.N(soon))
	case errors.Is(err, errOtherRing):
		v.known = false
		v.next = time.Now().Add(min(otherRing, k.cfg.CompareEvery))
	case err == nil:
		b.dirty = b.dirty || !v.known || len(found.differ) > 0 || len(old.differing()) > 0
		found.goOn(v.found)
		v.known, v.found = true, found
	}
}

func (f *finding) differing() map[int]*difference {
	if f == nil {
		return nil
	}
	return f.differ
}

// interval is after how long a node is compared with again when there are so many of them.
func (k *Keeper) interval(peers int) time.Duration {
	rounds := max(1, (peers+comparedPer-1)/comparedPer)
	every := k.cfg.CompareEvery * time.Duration(rounds)
	return every*9/10 + rand.N(every/5+1)
}

// noteGone keeps since when places are down.
func (k *Keeper) noteGone(p *plan) {
	b := &k.back
	b.mu.Lock()
	defer b.mu.Unlock()
	now, gone := time.Now(), make(map[string]time.Time)
	for _, at := range p.places {
		for _, id := range at.down {
			gone[id] = now
			if since, ok := b.gone[id]; ok {
				gone[id] = since
			}
		}
	}
	b.gone = gone
}

func (k *Keeper) assessNow(changed bool) bool {
	b := &k.back
	b.mu.Lock()
	defer b.mu.Unlock()
	if !changed && !b.dirty && time.Since(b.assessed) < k.cfg.CompareEvery {
		return false
	}
	b.dirty, b.assessed = false, time.Now()
	return true
}

// backgroundStats fills in what the background knows.
func (k *Keeper) backgroundStats(s *Stats) {
	b := &k.back
	s.Repairing = int(b.repairing.Load())
	s.Repaired, s.RepairedBytes = b.repaired.Load(), b.repairedBytes.Load()
	now := k.contentsFor(b.plan.Load())
	s.Hosted, s.HostedBytes = now.blobs, now.bytes
	if p := b.plan.Load(); p != nil {
		s.Strays = p.strays()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.BelowCopies = b.below
}

// contentsFor are the present contents, taken from a plan when they are the same.
func (k *Keeper) contentsFor(p *plan) *contents {
	if p == nil {
		return k.contentsNow(nil)
	}
	return k.contentsNow(p.contents)
}
