package catalog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestThePlanKeepsTheNumberOfVotersAndTheirQuorum(t *testing.T) {
	long := time.Unix(0, 0)
	voter := func(node, zone string) standing {
		return standing{name: "r" + node, node: node, zone: zone, voter: true, near: true, since: long}
	}
	gone := func(s standing) standing { s.gone, s.silent = true, true; return s }
	silent := func(s standing) standing { s.silent = true; return s }
	leaving := func(s standing) standing { s.leaving = true; return s }
	self := func(s standing) standing { s.self = true; return s }
	fresh := func(s standing) standing { s.voter = false; return s }
	could := func(node, zone string) candidate { return candidate{node, zone, long} }
	a, b, c, d, e := self(voter("a", "")), voter("b", ""), voter("c", ""), voter("d", ""), voter("e", "")
	for _, row := range []struct {
		name       string
		servers    []standing
		candidates []candidate
		members    int
		want       move
	}{
		{"alone", []standing{a}, nil, 1, move{}},
		{"a second member", []standing{a}, []candidate{could("b", "")}, 2, move{add, "", "b"}},
		{"it has caught up", []standing{a, fresh(b)}, nil, 2, move{promote, "rb", "b"}},
		{"the fourth of four keeps nothing", []standing{a, b, c}, []candidate{could("d", "")}, 4, move{}},
		{"a fifth", []standing{a, b, c}, []candidate{could("d", ""), could("e", "")}, 5, move{add, "", "d"}},
		{"one is gone and another can come", []standing{a, b, gone(c)}, []candidate{could("d", "")}, 3, move{add, "", "d"}},
		{"another has come", []standing{a, b, gone(c), d}, nil, 3, move{remove, "rc", "c"}},
		{"one is gone for good and nobody can come", []standing{a, b, gone(c)}, nil, 2, move{remove, "rc", "c"}},
		{"without quorum nothing is done", []standing{a, gone(b)}, []candidate{could("c", "")}, 2, move{}},
		{"nobody is sent away while another is only suspected", []standing{a, b, silent(c)}, nil, 2, move{}},
		{"a farm that shrank", []standing{a, b, c, d, e}, nil, 4, move{remove, "re", "e"}},
		{"the leader leaves", []standing{leaving(a), b, c, d}, nil, 3, move{handOver, "ra", "a"}},
		{"a voter leaves", []standing{a, leaving(b), c}, []candidate{could("d", "")}, 3, move{add, "", "d"}},
		{"zones", []standing{self(voter("a", "x")), voter("b", "x"), voter("c", "x")}, []candidate{could("d", "x"), could("e", "y")}, 5, move{add, "", "e"}},
		{"a zone without voters", []standing{self(voter("a", "x")), voter("b", "x"), voter("c", "x")}, []candidate{could("d", "y")}, 4, move{add, "", "d"}},
		{"its voter has come", []standing{self(voter("a", "x")), voter("b", "x"), voter("c", "x"), voter("d", "y")}, nil, 4, move{remove, "rc", "c"}},
		{"spread out", []standing{self(voter("a", "x")), voter("b", "x"), voter("d", "y")}, []candidate{could("c", "x")}, 4, move{}},
	} {
		got := plan(row.servers, row.candidates, row.members, func(candidate) bool { return true })
		if got != row.want {
			t.Errorf("%s: plan = %v; want %v", row.name, got, row.want)
		}
	}
}

func TestAVoterThatIsGoneForGoodIsReplacedWithinTenSeconds(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(6+n.intn(3), 3)
		w := n.watch()
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		for range 2 { // one of them may be the leader
			voters := all[0].voterNodes()
			gone := n.nodes[voters[n.intn(len(voters))]]
			start := time.Now()
			gone.crash()
			n.until(10*time.Second-time.Since(start), "another voter", func() bool {
				s := n.leaderStatus()
				return len(s.Voters) == 5 && s.Tolerance == 2 && !hasVoter(s, gone.id)
			})
			gone.start()
			time.Sleep(10 * time.Second)
		}
		w.one()
	})
}

// voterNodes are the voters as the farm's leader has them.
func (f *fakeNode) voterNodes() []string {
	var nodes []string
	for _, v := range f.net.leaderStatus().Voters {
		nodes = append(nodes, v.Node)
	}
	return nodes
}

// leaderStatus is the status of the node that leads with a majority, or none.
func (n *fakeNetwork) leaderStatus() Status {
	var best Status
	for _, id := range n.ids() {
		if f := n.running(id); f != nil {
			if s := f.catalog.Status(); s.Leader == id && s.Term >= best.Term {
				best = s
			}
		}
	}
	return best
}

func hasVoter(s Status, node string) bool {
	for _, v := range s.Voters {
		if v.Node == node {
			return true
		}
	}
	return false
}

func TestVotersAreSpreadOverZones(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		for i, zone := range []string{"x", "x", "x", "x", "y", "z"} {
			n.add(fmt.Sprintf("n%d", i), zone, "n0", "n1", "n2").start()
			time.Sleep(5 * time.Second)
		}
		n.until(3*time.Minute, "a voter in each zone", func() bool {
			zones := map[string]int{}
			s := n.leaderStatus()
			for _, v := range s.Voters {
				zones[v.Zone]++
			}
			return len(s.Voters) == 5 && zones["y"] == 1 && zones["z"] == 1
		})
	})
}

func TestEveryNodeWritesAndReadsThroughTheLeader(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(8, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		for _, f := range all {
			if err := f.set("k", f.id); err != nil {
				t.Fatalf("write through %s = %v", f.id, err)
			}
			for _, g := range all {
				view, err := g.catalog.Read(t.Context(), false)
				if errors.Is(err, ErrNoReplica) {
					continue
				}
				if got := string(view.Setting("k")); err != nil || got != f.id {
					t.Errorf("read through %s = %q, %v; want %q", g.id, got, err, f.id)
				}
			}
			missing := oci.FromBytes(oci.SHA256, []byte("x"))
			r, err := f.catalog.Apply(t.Context(), Command{Do: PutTag{"r", "t", missing}})
			if err != nil || !errors.Is(r.Err, oci.ErrNotFound) {
				t.Errorf("PutTag of an unknown manifest through %s = %v, %v; want %v", f.id, r.Err, err, oci.ErrNotFound)
			}
		}
	})
}

func TestWithoutAQuorumWritesAndReadsFailWithinTwoSeconds(t *testing.T) {
	seeds(t, 20, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(5, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		n.split([]string{"a", "b"}, []string{"c"}, []string{"d", "e"})
		for range 5 {
			for _, f := range all {
				start := time.Now()
				_, err := f.catalog.Apply(t.Context(), Command{Do: SetSetting{"k", []byte("v")}})
				if took := time.Since(start); !errors.Is(err, ErrNoQuorum) || took > 2*time.Second {
					t.Errorf("write through %s = %v after %v; want %v within 2s", f.id, err, took, ErrNoQuorum)
				}
				start = time.Now()
				_, err = f.catalog.Read(t.Context(), false)
				if took := time.Since(start); !errors.Is(err, ErrNoQuorum) || took > 2*time.Second {
					t.Errorf("read through %s = %v after %v; want %v within 2s", f.id, err, took, ErrNoQuorum)
				}
				if _, err := f.catalog.Read(t.Context(), true); err != nil {
					t.Errorf("stale read through %s = %v; want none", f.id, err)
				}
			}
		}
		n.heal()
		n.until(15*time.Second, "a write", func() bool { return all[0].set("k", "w") == nil })
	})
}

// link links a blob, so that the catalog has hosted content.
func (f *fakeNode) link(text string) error {
	d := oci.FromBytes(oci.SHA256, []byte(text))
	r, err := f.catalog.Apply(context.Background(), Command{Do: LinkBlob{Repository: "r", Digest: d, Size: 1}})
	return errors.Join(err, r.Err)
}

// lonePair are two farms of one, and then one farm: b was told to join a.
func lonePair(n *fakeNetwork, prepare func(a, b *fakeNode)) (a, b *fakeNode) {
	a, b = n.add("a", ""), n.add("b", "")
	n.split([]string{"a"}, []string{"b"})
	a.start()
	b.start()
	n.until(5*time.Second, "two catalogs", func() bool { return a.set("k", "a") == nil && b.set("k", "b") == nil })
	prepare(a, b)
	b.end()
	b.seeds = []string{"a"}
	b.start()
	time.Sleep(time.Duration(n.intn(3000)) * time.Millisecond)
	n.heal()
	return a, b
}

func TestAnEmptyFarmThatJoinsGivesUpItsCatalog(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		a, b := lonePair(n, func(a, _ *fakeNode) {
			if err := a.link("x"); err != nil {
				t.Fatal(err)
			}
		})
		n.votersAre(30*time.Second, 2)
		w := n.watch()
		w.one()
		if got, want := b.catalog.identity().Catalog, a.catalog.identity().Catalog; got != want {
			t.Errorf("b uses %s; want %s", got, want)
		}
	})
}

func TestAFarmWithHostedContentThatJoinsAnotherRefuses(t *testing.T) {
	seeds(t, bootstrapSeeds, func(t *testing.T, n *fakeNetwork) {
		a, b := lonePair(n, func(a, b *fakeNode) {
			if err := errors.Join(a.link("x"), b.link("y")); err != nil {
				t.Fatal(err)
			}
		})
		n.until(30*time.Second, "a refusal", func() bool { return errors.Is(b.set("k", "v"), ErrRefused) })
		time.Sleep(20 * time.Second)
		if err := a.set("k", "v"); err != nil {
			t.Errorf("write to the farm that was joined = %v; want none", err)
		}
		if s := b.catalog.Status(); s.State != Refused || s.Trouble == "" {
			t.Errorf("Status() = %+v; want %q and what to do", s, Refused)
		}
		if view, err := b.catalog.Read(t.Context(), false); err != nil || view.Empty() {
			t.Errorf("Read = %v, empty %v; want what b has", err, view.Empty())
		}
		if _, err := b.catalog.HoldsAll(t.Context(), []oci.Digest{blob("x")}, false); !errors.Is(err, ErrRefused) {
			t.Errorf("HoldsAll of what the other catalog has = %v; want %v, or a collection removes it", err, ErrRefused)
		}
	})
}

func TestAnEmptyFarmOfSeveralVotersGivesUpItsCatalogToo(t *testing.T) {
	seeds(t, 20, func(t *testing.T, n *fakeNetwork) {
		for _, id := range []string{"a", "b", "c"} {
			n.add(id, "", "a", "b", "c")
		}
		n.add("d", "")
		n.add("e", "", "d")
		n.split([]string{"a", "b", "c"}, []string{"d", "e"})
		for _, f := range n.nodes {
			f.start()
		}
		n.until(30*time.Second, "three and two voters", func() bool {
			return len(n.nodes["a"].catalog.Status().Voters) == 3 && len(n.nodes["e"].catalog.Status().Voters) == 2
		})
		if err := n.nodes["b"].link("x"); err != nil {
			t.Fatal(err)
		}
		n.heal()
		n.votersAre(60*time.Second, 5)
		n.watch().one()
	})
}
