package swarm_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

func register(change ...func(*swarm.RegisterConfig)) *swarm.Register {
	cfg := swarm.DefaultRegister(64)
	cfg.Zone = "a"
	for _, c := range change {
		c(&cfg)
	}
	r := swarm.NewRegister(cfg, seeded(5))
	r.JoinOwner(0, nil)
	return r
}

func TestFewNodesAllKnowEachOther(t *testing.T) {
	r := register()
	for p := swarm.Peer(1); p < 8; p++ {
		got := slices.Clone(r.Join(p, "a", nil, 24))
		slices.Sort(got)
		var want []swarm.Peer
		for q := range p {
			want = append(want, q)
		}
		if !slices.Equal(got, want) {
			t.Errorf("Join(%d) = %v; want all before it, %v", p, got, want)
		}
	}
}

func TestNeighboursAreManyEnoughAndOneCanReachAll(t *testing.T) {
	const hosts = 1000
	r := register()
	links := map[swarm.Peer][]swarm.Peer{}
	add := func(p swarm.Peer, list []swarm.Peer) {
		for _, q := range list {
			if q == p || slices.Contains(links[p], q) {
				t.Fatalf("node %d was given %d, itself or a neighbour that it has", p, q)
			}
			links[p], links[q] = append(links[p], q), append(links[q], p)
		}
	}
	for p := swarm.Peer(1); p < hosts; p++ {
		add(p, r.Join(p, "a", nil, 24))
	}
	for p := swarm.Peer(1); p < hosts; p++ {
		if n := len(links[p]); n < 24 {
			add(p, r.More(p, 24-n, false))
		}
	}
	seen, next := map[swarm.Peer]bool{0: true}, []swarm.Peer{0}
	steps := 0
	for ; len(next) > 0; steps++ {
		var further []swarm.Peer
		for _, p := range next {
			for _, q := range links[p] {
				if !seen[q] {
					seen[q] = true
					further = append(further, q)
				}
			}
		}
		next = further
	}
	if len(seen) != hosts || steps > 6 {
		t.Errorf("%d of %d nodes reached in %d steps; want all within 6", len(seen), hosts, steps)
	}
	for p, l := range links {
		if p != 0 && (len(l) < 24 || len(l) > 40) {
			t.Errorf("node %d has %d neighbours; want 24 to about 32", p, len(l))
		}
	}
}

func TestOnlyTheImporterCrossesZones(t *testing.T) {
	r := register(func(c *swarm.RegisterConfig) {
		c.Importer = func(zone string) (swarm.Peer, bool) { return 15, zone == "b" }
	})
	zone := func(p swarm.Peer) string { return []string{"a", "b", "c"}[p%3] }
	crossing := map[swarm.Peer]bool{}
	for p := swarm.Peer(3); p < 60; p++ {
		z := zone(p)
		if p == 15 {
			z = "b"
		}
		r.Join(p, z, nil, 24)
	}
	b, _ := r.Importer("b")
	c, _ := r.Importer("c")
	if b != 15 || zone(c) != "c" {
		t.Fatalf("importers are %d and %d; want 15, which was named, and one of c", b, c)
	}
	for p := swarm.Peer(60); p < 120; p++ {
		for _, q := range r.Join(p, zone(p), nil, 24) {
			if zone(q) != zone(p) && q != 15 && q != c {
				crossing[q] = true
				if zone(p) != "a" || zone(q) != "a" {
					t.Errorf("node %d of %s was given %d of %s", p, zone(p), q, zone(q))
				}
			}
		}
	}
	if _, ok := r.Importer("a"); ok {
		t.Error("the owner's zone has an importer; it needs none")
	}
	far := r.More(61, 24, true)
	if !slices.ContainsFunc(far, func(q swarm.Peer) bool { return zone(q) != zone(61) }) {
		t.Errorf("More of a node that has stalled = %v; want other zones too", far)
	}
}

func TestPushesStayInTheOwnersZone(t *testing.T) {
	r := register()
	r.Join(1, "b", nil, 8)
	if !r.Seeder().Target(1) {
		t.Error("the owner is alone in its zone and does not push to the importer of another")
	}
	r.Join(2, "b", nil, 8)
	r.Join(3, "a", nil, 8)
	for p, want := range map[swarm.Peer]bool{0: false, 1: false, 2: false, 3: true} {
		if got := r.Seeder().Target(p); got != want {
			t.Errorf("Target(%d) = %v; want %v", p, got, want)
		}
	}
	r.Leave(3)
	if !r.Seeder().Target(1) && !r.Seeder().Target(2) {
		t.Error("the last node of the owner's zone left and no importer gets pushes")
	}
}

func TestASuccessorReadsOnlyWhatNoNodeHas(t *testing.T) {
	r := register()
	r.Join(1, "a", bitmap(64, 0, 1, 2), 8)
	r.Join(2, "a", bitmap(64, 2, 3), 8)
	r.Have(1, []uint32{10, 1 << 30})
	missing := r.Missing()
	for i, want := range map[int]bool{0: false, 2: false, 3: false, 10: false, 4: true, 63: true} {
		if got := missing.Has(i); got != want {
			t.Errorf("Missing has %d: %v; want %v", i, got, want)
		}
	}
	r.Leave(1)
	if m := r.Missing(); !m.Has(0) || m.Has(2) {
		t.Error("after node 1 left, 0 is missing and 2 is not")
	}
}

func TestWhatOnlyALostNodeHadIsPushedAgain(t *testing.T) {
	r := register()
	r.Join(1, "a", nil, 8)
	s := r.Seeder()
	s.Add(0)
	for _, p := range s.Next(0, 8) {
		s.Acked(p.Peer, p.Piece, ms)
		r.Have(p.Peer, []uint32{uint32(p.Piece)})
		s.Elsewhere([]uint32{uint32(p.Piece)}) // the node itself has said so
	}
	r.Join(2, "a", nil, 8)
	r.Leave(1)
	if got := s.Next(2*ms, 8); len(got) != 1 || got[0] != (swarm.Push{Peer: 2, Piece: 0}) {
		t.Errorf("Next = %v; want piece 0 pushed to 2", got)
	}
}

func TestHoldersAreKnownAndGivenFirst(t *testing.T) {
	r := register()
	r.Join(1, "a", piece.FullBitmap(64), 8)
	for p := swarm.Peer(2); p < 100; p++ {
		if got := r.Join(p, "a", nil, 8); !slices.Contains(got, 1) {
			t.Fatalf("Join(%d) = %v; want the holder among them", p, got)
		}
	}
	if got := r.Holders(); !slices.Equal(got, []swarm.Peer{1}) {
		t.Errorf("Holders = %v; want [1]", got)
	}
	r.Leave(1)
	if got := r.Holders(); len(got) != 0 {
		t.Errorf("Holders after it left = %v", got)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	run := func(connected func(a, b swarm.Peer) bool) int {
		r := register(func(c *swarm.RegisterConfig) { c.Connected = connected })
		n := 0
		for p := swarm.Peer(1); p < 400; p++ {
			for _, q := range r.Join(p, "a", nil, 12) {
				if p%4 == q%4 {
					n++
				}
			}
		}
		return n
	}
	with, without := run(func(a, b swarm.Peer) bool { return a%4 == b%4 }), run(nil)
	if float64(with) < 1.4*float64(without) {
		t.Errorf("%d links over known connections, %d without preference; want clearly more", with, without)
	}
}

func TestAnyOrderOfComingAndGoingKeepsTheRegisterWhole(t *testing.T) {
	for seed := range uint64(20) {
		rng := seeded(seed)
		r := register()
		in := map[swarm.Peer]string{}
		for range 2000 {
			p := swarm.Peer(1 + rng.IntN(60))
			if _, ok := in[p]; ok && rng.IntN(2) == 0 {
				r.Leave(p)
				delete(in, p)
				continue
			}
			z := fmt.Sprint("zone", rng.IntN(4))
			if rng.IntN(2) == 0 {
				z = "a"
			}
			in[p] = z
			for _, q := range r.Join(p, z, bitmap(64, rng.IntN(64)), rng.IntN(20)) {
				if _, ok := in[q]; !ok && q != 0 {
					t.Fatalf("seed %d: node %d was given %d, which is not there", seed, p, q)
				}
			}
			if imp, ok := r.Importer(z); ok && in[imp] != z {
				t.Fatalf("seed %d: the importer of %s is %d, which is not there", seed, z, imp)
			}
		}
		if r.Len() != len(in)+1 {
			t.Fatalf("seed %d: Len = %d; want %d", seed, r.Len(), len(in)+1)
		}
	}
}
