package ring

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/oci"
)

// maxTables bounds the tables that a View keeps beside its own (64 KiB each at
// 16,384 partitions): those of zones and those without lost members.
const maxTables = 16

// View is the ring at one moment: it never changes. Its methods return the ID of
// a member, or "" when there is nobody.
type View struct {
	builder *Builder
	members []Member
	whole   *table
	hash    uint64
	epoch   uint64
	placed  places

	mu    sync.Mutex
	cache []cached // most recently used last
}

type cached struct {
	key   string
	table *table
}

// Owner returns the member that owns the blob: the one that fetches it.
func (v *View) Owner(d oci.Digest) string { return v.OwnerOf(d.String()) }

// OwnerOf returns the owner of any other name, such as a repository and tag.
func (v *View) OwnerOf(key string) string { return v.whole.owner(v.PartitionOf(key)) }

// OwnerWithout returns the owner on the ring without the lost members: the one a
// farm of all others would have. The first question about a set of lost members
// costs milliseconds (some 20 at a thousand members), the next ones nothing.
func (v *View) OwnerWithout(d oci.Digest, lost ...string) string {
	return v.OwnerOfWithout(d.String(), lost...)
}

// OwnerOfWithout is OwnerWithout for any other name.
func (v *View) OwnerOfWithout(key string, lost ...string) string {
	return v.tableWithout("", false, lost).owner(v.PartitionOf(key))
}

// ZoneOwner returns the owner on the ring of that zone's members alone, with and
// without egress: the one that imports the blob into the zone.
func (v *View) ZoneOwner(d oci.Digest, zone string) string {
	return v.ZoneOwnerWithout(d, zone)
}

// ZoneOwnerWithout is ZoneOwner on the ring without the lost members.
func (v *View) ZoneOwnerWithout(d oci.Digest, zone string, lost ...string) string {
	return v.tableWithout(zone, true, lost).owner(v.Partition(d))
}

// Partition returns the partition of a blob.
func (v *View) Partition(d oci.Digest) int { return v.PartitionOf(d.String()) }

// PartitionOf returns the partition of any other name.
func (v *View) PartitionOf(key string) int {
	return int(xxhash.Sum64String(key) % uint64(v.builder.partitions))
}

// PartitionOwner returns the owner of partition p, which must be at least 0 and
// below Partitions.
func (v *View) PartitionOwner(p int) string { return v.whole.owner(p) }

// Partitions returns the number of partitions.
func (v *View) Partitions() int { return v.builder.partitions }

// Hash stands for the members and the placement: views of the same members have
// the same one on every node, all others have another.
func (v *View) Hash() uint64 { return v.hash }

// Epoch counts the changes that this node's Builder has seen. It says nothing
// to other nodes.
func (v *View) Epoch() uint64 { return v.epoch }

// Members returns the members, sorted by ID.
func (v *View) Members() []Member { return slices.Clone(v.members) }

// Member returns the member with that ID.
func (v *View) Member(id string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.members, id, func(m Member, id string) int {
		return strings.Compare(m.ID, id)
	})
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Empty says that the View has no members.
func (v *View) Empty() bool { return len(v.members) == 0 }

// tableWithout returns the table of all members, or of one zone's, without the
// lost ones. Only lost members that would be in it make a difference.
func (v *View) tableWithout(zone string, zonal bool, lost []string) *table {
	lost = v.relevant(zone, zonal, lost)
	if !zonal && len(lost) == 0 {
		return v.whole
	}
	key := cacheKey(zone, zonal, lost)
	if t := v.cached(key); t != nil {
		return t
	}
	rest := slices.DeleteFunc(slices.Clone(v.members), func(m Member) bool {
		return zonal && m.Zone != zone || slices.Contains(lost, m.ID)
	})
	var t *table
	if zonal {
		if len(rest) > 0 {
			t = v.builder.zone(zone).table(identities(rest))
		} else {
			t = &table{}
		}
	} else {
		t = v.builder.scratch.table(owning(rest))
	}
	v.keep(key, t)
	return t
}

// relevant returns those of lost that are members (of the zone), sorted and each
// once.
func (v *View) relevant(zone string, zonal bool, lost []string) []string {
	if len(lost) == 0 {
		return nil
	}
	kept := make([]string, 0, len(lost))
	for _, id := range lost {
		if m, ok := v.Member(id); ok && (!zonal || m.Zone == zone) {
			kept = append(kept, id)
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

func (v *View) cached(key string) *table {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.cache, func(c cached) bool { return c.key == key })
	if i < 0 {
		return nil
	}
	c := v.cache[i]
	v.cache = append(slices.Delete(v.cache, i, i+1), c)
	return c.table
}

func (v *View) keep(key string, t *table) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.ContainsFunc(v.cache, func(c cached) bool { return c.key == key }) {
		return
	}
	if len(v.cache) == maxTables {
		v.cache = slices.Delete(v.cache, 0, 1)
	}
	v.cache = append(v.cache, cached{key, t})
}

func cacheKey(zone string, zonal bool, lost []string) string {
	var key strings.Builder
	if zonal {
		key.WriteByte('z')
		key.Write(binary.AppendUvarint(nil, uint64(len(zone))))
		key.WriteString(zone)
	}
	for _, id := range lost {
		key.WriteByte(0)
		key.WriteString(id)
	}
	return key.String()
}

func identities(members []Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return ids
}

// hashOf hashes the members and the table in a form that has one spelling.
func hashOf(t *table, members []Member) uint64 {
	h := xxhash.New()
	var buf []byte
	buf = binary.AppendUvarint(buf, uint64(len(members)))
	for _, m := range members {
		buf = appendText(buf, m.ID)
		buf = appendText(buf, m.Zone)
		buf = binary.AppendUvarint(buf, uint64(compareBool(m.Egress, false)))
	}
	buf = binary.AppendUvarint(buf, uint64(len(t.owners)))
	for _, owner := range t.owners {
		buf = binary.AppendUvarint(buf, uint64(owner))
	}
	_, _ = h.Write(buf)
	return h.Sum64()
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}
