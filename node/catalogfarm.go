package node

import (
	"sync"
	"time"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/gossip"
)

// catalogFarm is the farm as the catalog sees it: gossip's members, with the time at which each went.
type catalogFarm struct {
	gossip *gossip.Gossip

	mu   sync.Mutex
	gone map[string]time.Time // by the id of a member that is not there
}

func newCatalogFarm(g *gossip.Gossip) *catalogFarm {
	return &catalogFarm{gossip: g, gone: make(map[string]time.Time)}
}

// Members implements catalog.Farm.
func (f *catalogFarm) Members() []catalog.Member {
	known := f.gossip.Members()
	out := make([]catalog.Member, 0, len(known))
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := make(map[string]time.Time)
	for _, m := range known {
		out = append(out, f.member(m))
		if at, ok := f.gone[m.ID]; ok {
			gone[m.ID] = at
		}
	}
	f.gone = gone
	return out
}

// Lookup implements catalog.Farm.
func (f *catalogFarm) Lookup(id string) (catalog.Member, bool) {
	m, ok := f.gossip.Member(id)
	if !ok {
		return catalog.Member{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member(m), true
}

// member notes when m went, and is m for the catalog. The caller holds mu.
func (f *catalogFarm) member(m gossip.Member) catalog.Member {
	c := catalog.Member{
		ID: m.ID, Boot: m.BootID, Address: m.PeerAddr, Zone: m.Zone, Since: m.Since, Seats: f.gossip.Seats(m.ID),
		Leaving: m.State == gossip.Draining,
	}
	if m.Alive() {
		delete(f.gone, m.ID)
		return c
	}
	if _, ok := f.gone[m.ID]; !ok {
		f.gone[m.ID] = time.Now()
	}
	c.Gone = f.gone[m.ID]
	return c
}
