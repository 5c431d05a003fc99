package gossip

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// agreement compares the rings that members have with this node's own. Views
// differ for moments whenever the ring changes; only what lasts counts.
type agreement struct {
	mu      sync.Mutex
	own     uint64
	differs map[string]difference
}

type difference struct {
	since, seen time.Time
}

func (a *agreement) ownHash() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.own
}

// set changes the own hash. What others had is compared anew when they tell.
func (a *agreement) set(hash uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if hash != a.own {
		a.own = hash
		clear(a.differs)
	}
}

func (a *agreement) observe(id string, hash uint64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if hash == a.own || hash == 0 || a.own == 0 {
		delete(a.differs, id)
		return
	}
	d, ok := a.differs[id]
	if !ok {
		d.since = now
	}
	d.seen = now
	a.differs[id] = d
}

func (a *agreement) forget(keep func(id string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.differs, func(id string, _ difference) bool { return !keep(id) })
}

// lasting lists who was seen to differ at two times at least that far apart.
func (a *agreement) lasting(after time.Duration) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(a.differs)) {
		if d := a.differs[id]; d.seen.Sub(d.since) >= after {
			ids = append(ids, id)
		}
	}
	return ids
}

// due lists who differed once and was not heard of since: those to ask again.
func (a *agreement) due(now time.Time, after time.Duration) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(a.differs)) {
		if now.Sub(a.differs[id].seen) >= after {
			ids = append(ids, id)
		}
	}
	return ids
}

// SetRingHash says which ring this node has now: a ring.View's Hash.
func (g *Gossip) SetRingHash(hash uint64) {
	g.agreement.set(hash)
	g.table.setRingHash(g.cfg.ID, hash)
}

// ObserveRingHash notes which ring a member has, as a request of it tells. It
// never blocks.
func (g *Gossip) ObserveRingHash(id string, hash uint64) {
	g.table.setRingHash(id, hash)
	g.agreement.observe(id, hash, time.Now())
}

// Disagreements lists the members whose ring has been another one than this
// node's for longer than a change takes to go round. An operator should look.
func (g *Gossip) Disagreements() []string { return g.agreement.lasting(g.cfg.Timings.DisagreeAfter) }
