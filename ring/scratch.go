package ring

import (
	"sync"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
)

// The numbers that, with the partitions, fix where everything lies. Changing one
// moves nearly every blob of every farm; testdata/golden.txt holds them.
const (
	load        = 1.25
	replication = 100
)

// table is who owns what: owners[p] is an index into ids, which is sorted.
type table struct {
	ids    []string
	owners []int32
}

// owner returns the owner of partition p, "" in an empty table.
func (t *table) owner(p int) string {
	if len(t.ids) == 0 {
		return ""
	}
	return t.ids[t.owners[p]]
}

// scratch is a ring that is moved from one set of members to another by adding
// and removing the difference. A fresh ring of a thousand members takes seconds
// to build, a move by one member milliseconds, and both end in the same table.
type scratch struct {
	partitions int

	mu      sync.Mutex
	ring    *consistent.Consistent
	members map[string]struct{}
}

func newScratch(partitions int) *scratch {
	return &scratch{partitions: partitions}
}

// table moves the ring to these members, sorted and each once, and copies out
// who owns what.
func (s *scratch) table(ids []string) *table {
	if len(ids) == 0 {
		return &table{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.move(ids)
	index := make(map[string]int32, len(ids))
	for i, id := range ids {
		index[id] = int32(i)
	}
	t := &table{ids: ids, owners: make([]int32, s.partitions)}
	for p := range t.owners {
		t.owners[p] = index[s.ring.GetPartitionOwner(p).String()]
	}
	return t
}

func (s *scratch) move(ids []string) {
	wanted := make(map[string]struct{}, len(ids))
	var added, removed []string
	for _, id := range ids {
		wanted[id] = struct{}{}
		if _, ok := s.members[id]; !ok {
			added = append(added, id)
		}
	}
	for id := range s.members {
		if _, ok := wanted[id]; !ok {
			removed = append(removed, id)
		}
	}
	s.members = wanted
	if s.ring == nil || len(added)+len(removed) > len(ids)/2+1 {
		s.ring = build(s.partitions, ids)
		return
	}
	// Added before removed: the library resets its table when the last one goes.
	for _, id := range added {
		s.ring.Add(name(id))
	}
	for _, id := range removed {
		s.ring.Remove(id)
	}
}

// build makes a ring at once, which distributes the partitions only once.
func build(partitions int, ids []string) *consistent.Consistent {
	members := make([]consistent.Member, len(ids))
	for i, id := range ids {
		members[i] = name(id)
	}
	return consistent.New(members, consistent.Config{
		Hasher:            hasher{},
		PartitionCount:    partitions,
		ReplicationFactor: replication,
		Load:              load,
	})
}

type name string

func (n name) String() string { return string(n) }

type hasher struct{}

func (hasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }
