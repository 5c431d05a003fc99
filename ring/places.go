package ring

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/oci"
)

// places is where partitions belong when everybody is up, as far as that was asked.
type places struct {
	once  sync.Once
	lists []atomic.Pointer[[]string] // by partition: the longest list that was asked for
}

// Places returns where n copies of a blob belong, best first: with its owner, then with the members of the highest
// weight for its partition, with and without egress, each time one of a zone that has none yet while there is one.
// Fewer than n members are all. A member that is lost moves what it had, and of the rest only the little whose owner is
// another one without it. Only members that up says yes to count; nil is all of them, and is answered from memory.
func (v *View) Places(d oci.Digest, n int, up func(id string) bool) []string {
	n = min(n, len(v.members))
	if n <= 0 {
		return nil
	}
	p := v.Partition(d)
	if up != nil {
		return v.place(p, n, up)
	}
	v.placed.once.Do(v.preparePlaces)
	known := v.placed.lists[p].Load()
	if known == nil || len(*known) < n {
		// Each list begins as the shorter ones do.
		list := v.place(p, n, func(string) bool { return true })
		known = &list
		v.placed.lists[p].Store(known)
	}
	return slices.Clone((*known)[:n])
}

func (v *View) preparePlaces() {
	v.placed.lists = make([]atomic.Pointer[[]string], v.builder.partitions)
}

// place picks n members for partition p.
func (v *View) place(p, n int, up func(id string) bool) []string {
	free := v.weigh(p, up)
	out := make([]string, 0, n)
	taken := make([]string, 0, n) // zones
	take := func(i int) {
		m := v.members[free[i].member]
		out, taken = append(out, m.ID), append(taken, m.Zone)
		free[i] = free[len(free)-1]
		free = free[:len(free)-1]
	}
	owner := v.whole.owner(p)
	if i := slices.IndexFunc(free, func(c candidate) bool { return v.members[c.member].ID == owner }); i >= 0 {
		take(i)
	}
	for len(out) < n && len(free) > 0 {
		take(v.best(free, taken))
	}
	return out
}

// A candidate is a member that a copy may go to.
type candidate struct {
	member int // its index
	weight uint64
}

// weigh lists the members that are up with their weights for partition p.
func (v *View) weigh(p int, up func(id string) bool) []candidate {
	free := make([]candidate, 0, len(v.members))
	buf := make([]byte, 0, 128)
	for i, m := range v.members {
		if up(m.ID) {
			buf = append(binary.BigEndian.AppendUint64(buf[:0], uint64(p)), m.ID...)
			free = append(free, candidate{i, xxhash.Sum64(buf)})
		}
	}
	return free
}

// best is the index of the candidate of the highest weight, of a zone that is not taken if there is one.
func (v *View) best(free []candidate, taken []string) int {
	best, fresh := -1, false
	for i, c := range free {
		if best >= 0 && fresh && c.weight < free[best].weight {
			continue // cannot win, whatever its zone
		}
		isFresh := !slices.Contains(taken, v.members[c.member].Zone)
		switch {
		case best < 0, isFresh && !fresh:
		case isFresh != fresh:
			continue
		case c.weight < free[best].weight, c.weight == free[best].weight && c.member > free[best].member:
			continue
		}
		best, fresh = i, isFresh
	}
	return best
}
