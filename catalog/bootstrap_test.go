package catalog

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func parent(name string) string {
	name, _, _ = strings.Cut(name, "/")
	return name + "$"
}

// seedsToRun are the seeds of the random choices.
func seedsToRun(t *testing.T, count int) []uint64 {
	if text := os.Getenv("CATALOG_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	all := make([]uint64, count)
	for i := range all {
		all[i] = uint64(i) + 1
	}
	return all
}

const bootstrapSeeds = 50

func TestALoneNodeIsACatalogOfOneFromItsFirstSecond(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		a := n.add("a", "")
		w := n.watch()
		a.start()
		n.until(4*time.Second, "a write", func() bool { return a.set("k", "v") == nil })
		a.crash()
		a.start()
		n.until(4*time.Second, "a write after a restart", func() bool { return a.set("k", "w") == nil })
		if s := a.catalog.Status(); s.State != Voter || s.Leader != "a" || s.Tolerance != 0 {
			t.Errorf("Status() = %+v; want a voter that leads", s)
		}
		w.one()
	})
}

// farmOf adds so many nodes; the first few are the seeds of all.
func (n *fakeNetwork) farmOf(nodes, seedCount int) []*fakeNode {
	var ids []string
	for i := range nodes {
		ids = append(ids, string(rune('a'+i)))
	}
	var all []*fakeNode
	for _, id := range ids {
		all = append(all, n.add(id, "", ids[:seedCount]...))
	}
	return all
}

// votersAre waits until every node of the farm sees so many voters that are there.
func (n *fakeNetwork) votersAre(limit time.Duration, want int) {
	n.t.Helper()
	n.until(limit, fmt.Sprintf("%d voters", want), func() bool {
		for _, f := range n.nodes {
			if r := n.running(f.id); r != nil {
				s := r.catalog.Status()
				if len(s.Voters) != want || s.Leader == "" || slices.ContainsFunc(s.Voters, func(v VoterStatus) bool { return !n.keeps(v) }) {
					return false
				}
			}
		}
		return true
	})
}

// keeps tells whether a voter's node runs and still is that voter.
func (n *fakeNetwork) keeps(v VoterStatus) bool {
	f := n.running(v.Node)
	return f != nil && f.catalog.current() != nil && f.catalog.identity().Raft == v.Replica
}

func TestSeedsThatStartAtOnceFoundOneCatalog(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(4+n.intn(4), 3)
		w := n.watch()
		for _, f := range all {
			f.start()
		}
		n.votersAre(30*time.Second, votersFor(len(all)))
		w.one()
	})
}

func TestNodesThatStartOneAfterAnotherInAnyOrderFoundOneCatalog(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(5, 3)
		w := n.watch()
		for i := range all {
			j := i + n.intn(len(all)-i)
			all[i], all[j] = all[j], all[i]
		}
		for _, f := range all {
			f.start()
			time.Sleep(time.Duration(n.intn(8000)) * time.Millisecond)
		}
		n.votersAre(40*time.Second, 5)
		w.one()
	})
}

func TestAMissingFirstSeedHoldsNobodyUp(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(4, 3)
		w := n.watch()
		for _, f := range all[1:] {
			f.start()
		}
		n.until(20*time.Second, "a write", func() bool { return all[3].set("k", "v") == nil })
		time.Sleep(time.Duration(n.intn(20)) * time.Second)
		all[0].start()
		n.votersAre(40*time.Second, 3)
		w.one()
	})
}

func TestTooFewSeedsFoundNothingAndSaySo(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(6, 5)
		w := n.watch()
		for _, i := range []int{0, 1, 5} {
			all[i].start()
		}
		time.Sleep(2 * time.Minute)
		if got, want := all[0].catalog.Status().State, State("waiting for seeds (2 of 5)"); got != want {
			t.Errorf("state of a seed = %q; want %q", got, want)
		}
		if got := all[5].catalog.Status().State; got != WaitingForCatalog {
			t.Errorf("state of another node = %q; want %q", got, WaitingForCatalog)
		}
		w.none()
	})
}

func TestASeedListOfOneFoundsOneCatalog(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(3, 1)
		w := n.watch()
		for i := range all {
			j := i + n.intn(len(all)-i)
			all[i], all[j] = all[j], all[i]
		}
		for _, f := range all {
			f.start()
			time.Sleep(time.Duration(n.intn(5000)) * time.Millisecond)
		}
		n.votersAre(60*time.Second, 3)
		w.one()
	})
}

func TestSeedListsThatDifferNeverMakeTwoCatalogs(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		ids := []string{"a", "b", "c", "d", "e"}
		for _, id := range ids {
			// Each host has a list of its own, two or three entries long; often with itself in it.
			list := []string{ids[n.intn(3)], ids[n.intn(5)]}
			if n.intn(2) == 0 {
				list = append(list, id)
			}
			n.add(id, "", list...)
		}
		w := n.watch()
		for _, id := range ids {
			n.nodes[id].start()
			time.Sleep(time.Duration(n.intn(400)) * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if acked := w.end(); len(acked) > 1 {
			t.Errorf("%d catalogs took writes; want at most 1\n%s", len(acked), n.dump())
		}
	})
}

func TestASeedListWithoutARivalMajorityIsNotHeldUpByAnother(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		n.add("a", "", "a", "b", "c")
		n.add("b", "", "c", "b", "A")
		n.add("c", "", "a", "b", "c", "d")
		w := n.watch()
		for _, f := range n.nodes {
			f.start()
		}
		n.votersAre(30*time.Second, 3)
		w.one()
	})
}

func TestTwoListsThatCouldBothWinFoundNothingAndSaySo(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		for _, id := range []string{"a", "b"} {
			n.add(id, "", "a", "b", "c")
		}
		for _, id := range []string{"c", "d"} {
			n.add(id, "", "c", "d", "a")
		}
		w := n.watch()
		for _, f := range n.nodes {
			f.start()
		}
		time.Sleep(time.Minute)
		if got := n.nodes["a"].catalog.Status().State; got != SeedListsDiffer {
			t.Errorf("state = %q; want %q", got, SeedListsDiffer)
		}
		w.none()
	})
}

func TestAPartitionDuringTheFirstMinuteMakesOneCatalog(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(5, 3+2*n.intn(2))
		w := n.watch()
		for _, f := range all {
			f.start()
		}
		for range 6 {
			time.Sleep(time.Duration(n.intn(5000)) * time.Millisecond)
			n.splitAtRandom()
			time.Sleep(time.Duration(n.intn(6000)) * time.Millisecond)
			if n.intn(3) == 0 {
				n.heal()
			}
		}
		n.heal()
		n.votersAre(60*time.Second, 5)
		w.one()
	})
}

// splitAtRandom puts every node on one of two sides.
func (n *fakeNetwork) splitAtRandom() {
	var sides [2][]string
	for _, id := range n.ids() {
		i := n.intn(2)
		sides[i] = append(sides[i], id)
	}
	n.split(sides[:]...)
}

func TestANodeThatComesBackEmptyJoinsAgain(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(3+2*n.intn(2), 1+2*n.intn(2))
		w := n.watch()
		for _, f := range all {
			f.start()
		}
		if n.intn(2) == 0 { // with the catalog's first steps, or when it stands
			n.votersAre(60*time.Second, len(all))
		} else {
			n.until(60*time.Second, "a write", func() bool { return all[0].set("k", "v") == nil })
			n.votersAre(60*time.Second, len(all))
		}
		for range 3 {
			f := all[n.intn(len(all))]
			f.crash()
			f.wipe()
			time.Sleep(time.Duration(n.intn(20)) * time.Second)
			f.start()
			n.votersAre(90*time.Second, len(all))
		}
		w.one()
	})
}
