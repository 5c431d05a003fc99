package ring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

// farm makes n members that all have egress, spread over three zones.
func farm(n int) []ring.Member {
	members := make([]ring.Member, n)
	for i := range members {
		members[i] = ring.Member{ID: fmt.Sprintf("node-%04d", i), Zone: fmt.Sprintf("zone-%d", i%3), Egress: true}
	}
	return members
}

func digest(i int) oci.Digest { return oci.FromBytes("sha256", fmt.Appendf(nil, "blob %d", i)) }

// owners lists who owns each partition.
func owners(v *ring.View) []string {
	all := make([]string, v.Partitions())
	for p := range all {
		all[p] = v.PartitionOwner(p)
	}
	return all
}

func fresh(partitions int, members []ring.Member) *ring.View {
	return ring.NewBuilder(partitions).Update(members)
}

func without(members []ring.Member, lost ...string) []ring.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m ring.Member) bool { return slices.Contains(lost, m.ID) })
}

type libraryMember string

func (m libraryMember) String() string { return string(m) }

type libraryHasher struct{}

func (libraryHasher) Sum64(b []byte) uint64 { return xxhash.Sum64(b) }

func TestTheRingIsTheLibrarysOwn(t *testing.T) {
	members := farm(20)
	var theirs []consistent.Member
	for _, m := range members {
		theirs = append(theirs, libraryMember(m.ID))
	}
	c := consistent.New(theirs, consistent.Config{Hasher: libraryHasher{}, PartitionCount: 4099, ReplicationFactor: 100, Load: 1.25})
	v := fresh(4099, members)
	for i := range 2000 {
		d := digest(i)
		if got, want := v.Owner(d), c.LocateKey([]byte(d.String())).String(); got != want {
			t.Fatalf("Owner(%s) = %q; want %q as the library says", d, got, want)
		}
	}
}

func TestSameMembersSameRingWhateverTheHistory(t *testing.T) {
	const partitions = 509
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		all := farm(16)
		for i := range all {
			all[i].Egress = rng.IntN(4) > 0
		}
		b := ring.NewBuilder(partitions)
		present := map[int]bool{}
		for range 25 {
			for range 1 + rng.IntN(4) {
				i := rng.IntN(len(all))
				present[i] = !present[i]
			}
			var now []ring.Member
			for _, i := range rng.Perm(len(all)) {
				if present[i] {
					now = append(now, all[i])
				}
			}
			got, want := b.Update(now), fresh(partitions, now)
			if !slices.Equal(owners(got), owners(want)) {
				t.Fatalf("after a history the ring of %v differs from a fresh one", now)
			}
			if got.Hash() != want.Hash() {
				t.Fatalf("Hash() = %x; want %x as of a fresh ring of the same members", got.Hash(), want.Hash())
			}
		}
	}
}

func TestOwnerWithoutIsTheOwnerOfAFarmWithoutThem(t *testing.T) {
	const partitions = 509
	rng := rand.New(rand.NewPCG(3, 4))
	members := farm(12)
	members[3].Egress, members[7].Egress = false, false
	b := ring.NewBuilder(partitions)
	old := b.Update(members[:10])
	v := b.Update(members)
	for range 60 {
		var lost []string
		for range rng.IntN(5) {
			lost = append(lost, members[rng.IntN(len(members))].ID)
		}
		d := digest(rng.IntN(10000))
		want := fresh(partitions, without(members, lost...))
		if got := v.OwnerWithout(d, lost...); got != want.Owner(d) {
			t.Errorf("OwnerWithout(%s, %v) = %q; want %q", d, lost, got, want.Owner(d))
		}
		for _, zone := range []string{"zone-0", "zone-1", "zone-2"} {
			alone := slices.DeleteFunc(without(members, lost...), func(m ring.Member) bool { return m.Zone != zone })
			for i := range alone {
				alone[i].Egress = true
			}
			if got, want := v.ZoneOwnerWithout(d, zone, lost...), fresh(partitions, alone).Owner(d); got != want {
				t.Errorf("ZoneOwnerWithout(%s, %s, %v) = %q; want %q", d, zone, lost, got, want)
			}
		}
		before := fresh(partitions, without(members[:10], lost...))
		if got := old.OwnerWithout(d, lost...); got != before.Owner(d) {
			t.Errorf("an older view's OwnerWithout(%s, %v) = %q; want %q", d, lost, got, before.Owner(d))
		}
	}
}

func TestAViewMayBeAskedByManyAtOnce(t *testing.T) {
	members := farm(9)
	b := ring.NewBuilder(257)
	v := b.Update(members)
	want := make(map[string]string)
	for _, m := range members {
		want[m.ID] = fresh(257, without(members, m.ID)).Owner(digest(1))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				lost := members[(g+i)%len(members)].ID
				if got := v.OwnerWithout(digest(1), lost); got != want[lost] {
					t.Errorf("OwnerWithout(%s) = %q; want %q", lost, got, want[lost])
				}
				b.Update(members[:5+(g+i)%5])
				_ = v.ZoneOwner(digest(i), "zone-1")
			}
		})
	}
	wg.Wait()
}

func TestMembersWithoutEgressOwnNothing(t *testing.T) {
	members := farm(6)
	members[0].Egress, members[1].Egress = false, false
	v := fresh(1021, members)
	for p, owner := range owners(v) {
		if owner == members[0].ID || owner == members[1].ID {
			t.Fatalf("partition %d is owned by %s, which has no egress", p, owner)
		}
	}
	for i := range members {
		members[i].Egress = false
	}
	counts := make(map[string]int)
	for _, owner := range owners(fresh(1021, members)) {
		counts[owner]++
	}
	if len(counts) != len(members) {
		t.Errorf("with no egress anywhere %d members own; want all %d", len(counts), len(members))
	}
}

func TestWhenEveryOwnerIsLostTheOthersTakeOver(t *testing.T) {
	members := []ring.Member{{ID: "a", Egress: true}, {ID: "b"}}
	v := fresh(64, members)
	d := digest(0)
	if got := v.Owner(d); got != "a" {
		t.Errorf("Owner = %q; want a, the only one with egress", got)
	}
	if got := v.OwnerWithout(d, "a"); got != "b" {
		t.Errorf("OwnerWithout(a) = %q; want b", got)
	}
	if got := v.OwnerWithout(d, "a", "b"); got != "" {
		t.Errorf("OwnerWithout(a, b) = %q; want nobody", got)
	}
}

func TestAnEmptyRingHasNoOwner(t *testing.T) {
	b := ring.NewBuilder(64)
	for _, v := range []*ring.View{b.View(), b.Update(nil), b.Update([]ring.Member{{ID: ""}})} {
		if !v.Empty() || v.Owner(digest(0)) != "" || v.OwnerOf("x") != "" || v.OwnerWithout(digest(0), "a") != "" ||
			v.ZoneOwner(digest(0), "") != "" || v.PartitionOwner(3) != "" {
			t.Errorf("an empty ring names an owner")
		}
	}
	if v := b.Update(farm(3)); v.Empty() {
		t.Errorf("Empty() with three members")
	}
	if v := b.Update(nil); !v.Empty() || v.Owner(digest(0)) != "" {
		t.Errorf("a ring that lost all its members still has an owner")
	}
}

func TestARingOfOneOwnsAll(t *testing.T) {
	v := fresh(64, farm(1))
	for p, owner := range owners(v) {
		if owner != "node-0000" {
			t.Fatalf("PartitionOwner(%d) = %q; want the only member", p, owner)
		}
	}
	if got := v.ZoneOwner(digest(0), "zone-0"); got != "node-0000" {
		t.Errorf("ZoneOwner = %q; want the only member", got)
	}
}

func TestUpdateWithTheSameMembersIsTheSameView(t *testing.T) {
	b := ring.NewBuilder(64)
	members := farm(4)
	v := b.Update(members)
	slices.Reverse(members)
	members = append(members, members[0])
	if again := b.Update(members); again != v {
		t.Errorf("the same members in another order made another view (epoch %d and %d)", v.Epoch(), again.Epoch())
	}
	if next := b.Update(members[1:3]); next.Epoch() != v.Epoch()+1 || b.View() != next {
		t.Errorf("Epoch() = %d after a change; want %d", next.Epoch(), v.Epoch()+1)
	}
}

func TestHashDiffersWithMembersZonesEgressAndPartitions(t *testing.T) {
	seen := map[uint64]string{}
	check := func(what string, v *ring.View) {
		if other, ok := seen[v.Hash()]; ok {
			t.Errorf("%s and %s have one hash", what, other)
		}
		seen[v.Hash()] = what
	}
	for n := range 6 {
		check(fmt.Sprintf("%d members", n), fresh(64, farm(n)))
	}
	check("65 partitions", fresh(65, farm(3)))
	zoned := farm(3)
	zoned[1].Zone = "elsewhere"
	check("another zone", fresh(64, zoned))
	closed := farm(3)
	closed[1].Egress = false
	check("without egress", fresh(64, closed))
}

func TestNoMemberOwnsMoreThanItsBoundedLoad(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 50, 100} {
		counts := make(map[string]int)
		for _, owner := range owners(fresh(ring.DefaultPartitions, farm(n))) {
			counts[owner]++
		}
		bound := int(1.25*float64(ring.DefaultPartitions)/float64(n)) + 1
		for id, count := range counts {
			if count > bound {
				t.Errorf("with %d members %s owns %d partitions; want at most %d", n, id, count, bound)
			}
		}
		if len(counts) != n {
			t.Errorf("%d of %d members own something; want all", len(counts), n)
		}
	}
}

// Bounded loads let a few partitions of others move too: losing one of n frees
// none of its own room but raises everybody's bound, so blobs that had been
// pushed on go back to where they hash to.
func TestLosingANodeMovesLittleButItsOwnBlobs(t *testing.T) {
	for _, n := range []int{3, 10, 50, 150} {
		b := ring.NewBuilder(ring.DefaultPartitions)
		members := farm(n)
		before := owners(b.Update(members))
		after := owners(b.Update(without(members, members[n/2].ID)))
		own, others := 0, 0
		for p := range before {
			switch {
			case before[p] == members[n/2].ID:
				own++
			case before[p] != after[p]:
				others++
			}
		}
		t.Logf("%d members: %.2f%% of the partitions were the lost one's, %.2f%% of the others' moved as well",
			n, percent(own, len(before)), percent(others, len(before)))
		if percent(others, len(before)) > 1 {
			t.Errorf("with %d members %.2f%% of the others' partitions moved; want at most 1%%", n, percent(others, len(before)))
		}
	}
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(of) }

func TestALargeFarm(t *testing.T) {
	if testing.Short() {
		t.Skip("a first ring of a thousand members takes seconds")
	}
	b := ring.NewBuilder(ring.DefaultPartitions)
	members := farm(many)
	v := b.Update(members)
	lost := v.Owner(digest(1))
	successor := v.OwnerWithout(digest(1), lost)
	if successor == "" || successor == lost {
		t.Errorf("OwnerWithout(%s) = %q; want another member", lost, successor)
	}
	if got := b.Update(without(members, lost)).Owner(digest(1)); got != successor {
		t.Errorf("after the loss of %s the owner is %q; want %q as foretold", lost, got, successor)
	}
}
