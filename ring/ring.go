// Package ring says which member of the farm owns a digest.
//
// A digest belongs to one of a fixed number of partitions, a partition to one
// member: consistent hashing with bounded loads, computed by
// buraksezer/consistent over xxhash. The same members give the same ring on
// every node, whatever the order in which they came. A [Builder] follows the
// farm's members on scratch rings, one member at a time, and copies an
// immutable table, the [View], out of them after every change.
//
// The owner is the member that fetches. A member without egress cannot reach an
// upstream, so it owns nothing while any member has egress: all nodes see the
// same members, so all of them leave out the same ones, and nobody has to ask an
// owner to have somebody else fetch. Only when no member has egress do all of
// them share the ring (they may still hold a blob between them).
//
// The member that takes over from a lost one is the owner on the ring without
// it ([View.OwnerWithout]), not the next one along the circle.
//
// Who is a member, and when a silent one stops being one, is for gossip to say.
// A Builder and its Views may be shared by goroutines.
package ring

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// DefaultPartitions is the number of partitions that serves farms of one to a
// thousand nodes. It is fixed for a farm's life: another number moves every blob.
const DefaultPartitions = 16384

// Member is one member of the ring.
type Member struct {
	// ID names the member; two members with one ID are the same member.
	ID string
	// Zone is where it stands: members of one zone are near each other.
	Zone string
	// Egress says that it can reach the upstreams.
	Egress bool
}

// Builder follows the farm's members and makes Views of them.
type Builder struct {
	partitions int
	scratch    *scratch // holds the members that may own

	zonesMu sync.Mutex
	zones   map[string]*scratch

	updateMu sync.Mutex // one Update at a time; View does not wait for it
	view     atomic.Pointer[View]
}

// NewBuilder makes a Builder for a farm with that many partitions, with no
// members. It panics when partitions is below one.
func NewBuilder(partitions int) *Builder {
	if partitions < 1 {
		panic(fmt.Sprintf("ring: %d partitions", partitions))
	}
	b := &Builder{
		partitions: partitions,
		scratch:    newScratch(partitions),
		zones:      make(map[string]*scratch),
	}
	b.view.Store(b.newView(nil, 0))
	return b
}

// View returns the View of the last Update that has ended, or the empty one. It
// never blocks.
func (b *Builder) View() *View { return b.view.Load() }

// Update makes the View of these members, in any order. Members without an ID
// are left out, and of several with one ID only one counts, the same on every
// node. When nothing has changed it returns the View it returned before. A
// change of one member costs milliseconds, a first call with a thousand seconds.
func (b *Builder) Update(members []Member) *View {
	members = normalize(members)
	b.updateMu.Lock()
	defer b.updateMu.Unlock()
	before := b.View()
	if slices.Equal(members, before.members) {
		return before
	}
	v := b.newView(members, before.epoch+1)
	b.view.Store(v)
	b.forgetZones(members)
	return v
}

func (b *Builder) newView(members []Member, epoch uint64) *View {
	v := &View{
		builder: b,
		members: members,
		epoch:   epoch,
		whole:   b.scratch.table(owning(members)),
	}
	v.hash = hashOf(v.whole, members)
	return v
}

// zone returns the scratch ring of a zone, which it makes when there is none.
func (b *Builder) zone(name string) *scratch {
	b.zonesMu.Lock()
	defer b.zonesMu.Unlock()
	s, ok := b.zones[name]
	if !ok {
		s = newScratch(b.partitions)
		b.zones[name] = s
	}
	return s
}

// forgetZones drops the scratch rings of zones that have no member any more.
func (b *Builder) forgetZones(members []Member) {
	used := make(map[string]bool)
	for _, m := range members {
		used[m.Zone] = true
	}
	b.zonesMu.Lock()
	defer b.zonesMu.Unlock()
	for name := range b.zones {
		if !used[name] {
			delete(b.zones, name)
		}
	}
}

// normalize returns the members sorted by ID, each ID once.
func normalize(members []Member) []Member {
	kept := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.ID == "" })
	slices.SortFunc(kept, compareMembers)
	return slices.CompactFunc(kept, func(a, b Member) bool { return a.ID == b.ID })
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Zone, b.Zone), compareBool(a.Egress, b.Egress))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// owning returns the IDs of the members that may own: those with egress, or all
// when none has it.
func owning(members []Member) []string {
	var all, egress []string
	for _, m := range members {
		all = append(all, m.ID)
		if m.Egress {
			egress = append(egress, m.ID)
		}
	}
	if len(egress) == 0 {
		return all
	}
	return egress
}
