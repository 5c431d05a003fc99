package ring_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

// TestPlacesNeverChange pins where copies lie, as TestPlacementNeverChanges does for owners.
func TestPlacesNeverChange(t *testing.T) {
	var out strings.Builder
	for _, n := range []int{1, 2, 5, 50} {
		members := farm(n)
		if n == 5 {
			members[4].Egress = false
		}
		v := fresh(ring.DefaultPartitions, members)
		for i := range 12 {
			d := digest(i)
			gone := func(id string) bool { return id != v.Owner(d) }
			fmt.Fprintf(&out, "members %d %s places %q without its owner %q\n", n, d, v.Places(d, 4, nil), v.Places(d, 2, gone))
		}
	}
	if *update {
		if err := os.WriteFile("testdata/places.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/places.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("places have changed: got\n%s\nwant\n%s", &out, want)
	}
}

func always(string) bool { return true }

func TestPlacesBeginWithTheOwnerAndNameNobodyTwice(t *testing.T) {
	members := farm(9)
	members[2].Egress, members[5].Egress = false, false
	v := fresh(509, members)
	used := make(map[string]bool)
	for i := range 2000 {
		d := digest(i)
		got := v.Places(d, 12, nil)
		if len(got) != 9 || got[0] != v.Owner(d) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 9 {
			t.Fatalf("Places(%s, 12) = %q; want all nine once, %q first", d, got, v.Owner(d))
		}
		for n := range 4 {
			shorter := v.Places(d, n, nil)
			if !slices.Equal(shorter, got[:n]) || !slices.Equal(shorter, v.Places(d, n, always)) {
				t.Fatalf("Places(%s, %d) = %q; want the first of %q, asked either way", d, n, shorter, got)
			}
			for _, id := range shorter {
				used[id] = true
			}
		}
	}
	if len(used) != 9 {
		t.Errorf("%d members have a place; want all nine, those without egress too", len(used))
	}
}

func TestPlacesAreSpreadOverZones(t *testing.T) {
	members := farm(12) // three zones
	for i := range 8 {
		members[i].Zone = "zone-0" // and most members in one
	}
	v := fresh(509, members)
	for i := range 1000 {
		d := digest(i)
		zones := make(map[string]int)
		for _, id := range v.Places(d, 3, nil) {
			m, _ := v.Member(id)
			zones[m.Zone]++
		}
		if len(zones) != 3 {
			t.Fatalf("Places(%s, 3) stand in %v; want one in each of three zones", d, zones)
		}
	}
}

func TestWhoIsDownIsStoodInFor(t *testing.T) {
	v := fresh(509, farm(6))
	for i := range 500 {
		d := digest(i)
		all := v.Places(d, 6, nil)
		for k := range 3 {
			up := func(id string) bool { return id != all[k] }
			got := v.Places(d, 3, up)
			if len(got) != 3 || slices.Contains(got, all[k]) {
				t.Fatalf("Places(%s, 3) without %q = %q; want three others", d, all[k], got)
			}
			for _, id := range all[:3] {
				if id != all[k] && !slices.Contains(got, id) && v.Owner(d) != all[k] {
					t.Fatalf("Places(%s, 3) without %q = %q; want the others of %q to stay", d, all[k], got, all[:3])
				}
			}
		}
		if got := v.Places(d, 3, func(string) bool { return false }); len(got) != 0 {
			t.Fatalf("Places(%s) = %q with nobody up; want none", d, got)
		}
	}
	if got := fresh(509, nil).Places(digest(1), 3, nil); got != nil {
		t.Errorf("Places = %q of an empty ring; want none", got)
	}
}

// moved counts the copies that lie with a member after a change and did not before, over many blobs, and those of blobs
// that had no copy with the lost member.
func moved(before, after *ring.View, lost string, blobs []oci.Digest) (all, others int) {
	for _, d := range blobs {
		old := before.Places(d, 3, nil)
		for _, id := range after.Places(d, 3, nil) {
			if slices.Contains(old, id) {
				continue
			}
			all++
			if !slices.Contains(old, lost) {
				others++
			}
		}
	}
	return all, others
}

func TestLosingAMemberMovesOnlyItsCopies(t *testing.T) {
	blobs := make([]oci.Digest, 4000)
	for i := range blobs {
		blobs[i] = digest(i)
	}
	for _, n := range []int{4, 10, 40} {
		members := farm(n)
		before := fresh(ring.DefaultPartitions, members)
		after := fresh(ring.DefaultPartitions, without(members, members[1].ID))
		all, others := moved(before, after, members[1].ID, blobs)
		fair := 3 * len(blobs) / n // what the lost member had, about
		t.Logf("%d members: %d copies moved, %d of them of others; %d is a fair share", n, all, others, fair)
		if all > 3*fair/2 || others > fair/10 {
			t.Errorf("%d members: losing one moved %d copies, %d of blobs that it had not; want about %d and few", n, all, others, fair)
		}
	}
}

func BenchmarkPlaces(b *testing.B) {
	for _, n := range []int{10, 1000} {
		v := ring.NewBuilder(ring.DefaultPartitions).Update(farm(n))
		d := digest(0)
		b.Run(fmt.Sprintf("members=%d/all", n), func(b *testing.B) {
			for b.Loop() {
				_ = v.Places(d, 3, nil)
			}
		})
		b.Run(fmt.Sprintf("members=%d/up", n), func(b *testing.B) {
			for b.Loop() {
				_ = v.Places(d, 3, always)
			}
		})
	}
}
