package copies

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// Nodes come, restart, go for good, and see other rings for a while; blobs are pushed, and evicted where they are not
// hosted any more. A blob of which one copy survives is never lost, and in the end all are where they belong.
func TestTurmoilLosesNoBlob(t *testing.T) {
	seeds := uint64(50)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newTurmoil(t, seed).run() })
		})
	}
}

type turmoil struct {
	*village
	t      *testing.T
	r      *rand.Rand
	all    map[string]*cottage // that run
	down   map[string]*cottage // that will be back
	blobs  map[oci.Digest]bool
	asleep map[oci.Digest]int // copies on nodes of down
	next   int
	lost   int // blobs of which a node had the only copy
}

func newTurmoil(t *testing.T, seed uint64) *turmoil {
	m := &turmoil{
		village: newVillage(t, nil), t: t, r: rand.New(rand.NewPCG(seed, 7)),
		down: make(map[string]*cottage), blobs: make(map[oci.Digest]bool), asleep: make(map[oci.Digest]int), next: 6,
	}
	m.all = m.build("n0", "n1", "n2", "n3", "n4", "n5")
	for range 15 {
		m.push()
	}
	return m
}

func (m *turmoil) run() {
	for range 18 {
		m.step()
		m.evict()
		time.Sleep(time.Duration(m.r.Int64N(int64(2 * time.Minute))))
		m.evict()
	}
	for id, c := range m.down {
		m.all[id] = c.again()
	}
	for _, c := range m.all {
		c.view.see()
	}
	m.ring(slices.Collect(maps.Keys(m.all))...)
	time.Sleep(20 * time.Minute)
	m.evict()
	for d := range m.blobs {
		if got, want := holders(m.all, d), ids(m.places(m.all, d, 3)); !slices.Equal(got, want) {
			m.t.Errorf("%s is on %v; want %v", d, got, want)
		}
	}
	if len(m.blobs) < 10 || m.lost > 2 {
		m.t.Errorf("%d blobs are left, and %d were on one node alone when that was lost", len(m.blobs), m.lost)
	}
	if n := belowCopies(m.all); n != 0 {
		m.t.Errorf("%d blobs are below their copies; want 0", n)
	}
}

func (m *turmoil) any(of map[string]*cottage) *cottage {
	names := slices.Sorted(maps.Keys(of))
	return of[names[m.r.IntN(len(names))]]
}

func (m *turmoil) step() {
	switch m.r.IntN(8) {
	case 0, 1: // goes down
		if len(m.all) > 4 && len(m.down) < 2 {
			c := m.any(m.all)
			for d := range m.blobs {
				m.asleep[d] += btoi(c.hostsNow(d))
			}
			m.halt(c)
			m.down[c.id] = c
		}
	case 2: // comes back
		if len(m.down) > 0 {
			c := m.any(m.down)
			delete(m.down, c.id)
			m.all[c.id] = c.again()
			for d := range m.blobs {
				m.asleep[d] -= btoi(m.all[c.id].hostsNow(d))
			}
		}
	case 3: // is lost, with all it had
		if len(m.all) > 4 {
			c := m.any(m.all)
			last := m.onlyOn(c)
			m.halt(c)
			m.lost += len(last)
			for _, d := range last {
				delete(m.blobs, d)
			}
			m.ring(append(slices.Collect(maps.Keys(m.all)), slices.Collect(maps.Keys(m.down))...)...)
		}
	case 4: // a new one
		id := fmt.Sprint("n", m.next)
		m.next++
		m.all[id] = m.open(id, m.t.TempDir())
		m.all[id].start()
		m.ring(append(slices.Collect(maps.Keys(m.all)), slices.Collect(maps.Keys(m.down))...)...)
	case 5: // the ring lets those go that are down
		m.ring(slices.Collect(maps.Keys(m.all))...)
	case 6: // one sees another ring
		c := m.any(m.all)
		if m.r.IntN(2) == 0 {
			c.view.see(slices.Sorted(maps.Keys(m.all))[1:]...)
		} else {
			c.view.see()
		}
	case 7:
		m.push()
	}
}

// push has a node push a new blob.
func (m *turmoil) push() {
	raw := data(m.r.Uint64(), 1+m.r.IntN(20_000))
	c := m.any(m.all)
	d := m.has(raw, c)
	if err := c.Put(m.t.Context(), d, nil); err == nil {
		m.blobs[d] = true
	}
}

// halt stops a node.
func (m *turmoil) halt(c *cottage) {
	c.stop()
	delete(m.all, c.id)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// onlyOn are the blobs that no other node has, be it one that is down and will be back.
func (m *turmoil) onlyOn(c *cottage) (last []oci.Digest) {
	for d := range m.blobs {
		if got := holders(m.all, d); len(got) == 1 && got[0] == c.id && m.asleep[d] == 0 {
			last = append(last, d)
		}
	}
	return last
}

// evict removes everything that is only cached.
func (m *turmoil) evict() {
	for _, c := range m.all {
		c.store.Each(func(d oci.Digest, _ int64) bool {
			_ = c.holds.with(d, func() error {
				if c.hostsNow(d) {
					return nil
				}
				return c.store.Delete(d)
			})
			return true
		})
	}
}
