package gossip_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pullonce/pullonce/gossip"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// sealedFarm is a farm whose gossip is sealed with a key.
func sealedFarm(t *testing.T, net *network, n int, change func(*gossip.Config)) []*node {
	t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		cfg := net.config(i, net.address(0), net.address(1))
		cfg.Keys = [][]byte{key(1)}
		if change != nil {
			change(&cfg)
		}
		nodes[i] = net.start(t, i, cfg)
	}
	eventually(t, 10*time.Second, fmt.Sprintf("%d nodes know each other", n), func() bool { return allKnow(nodes, n) })
	return nodes
}

func allKnow(nodes []*node, n int) bool {
	return !slices.ContainsFunc(nodes, func(nd *node) bool { return aliveCount(nd.Gossip) != n })
}

func TestWhoHasNoKeyIsNoMember(t *testing.T) {
	for what, keys := range map[string][][]byte{"no key": nil, "a wrong key": {key(2)}} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := newNetwork(t)
				nodes := sealedFarm(t, net, 3, nil)
				before := nodes[0].Refused()
				cfg := net.config(8, net.address(0), net.address(1))
				cfg.Keys = keys
				stranger := net.start(t, 8, cfg)
				always(t, 2*time.Minute, "the farm has its three", func() bool { return allKnow(nodes, 3) && len(nodes[0].Members()) == 3 })
				if got := len(stranger.Members()); got != 1 {
					t.Errorf("the stranger knows %d members; want itself alone", got)
				}
				if got := nodes[0].Refused() - before; got == 0 {
					t.Error("nothing that the stranger sent was counted")
				}
			})
		})
	}
}

func TestJunkPacketsAreRefusedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := sealedFarm(t, net, 3, nil)
		for i := range 200 {
			junk := [][]byte{{}, {1}, []byte("plain"), bytes.Repeat([]byte{1}, 60), make([]byte, 60_000)}[i%5]
			net.inject(nodes[0].address, junk)
			time.Sleep(10 * time.Millisecond)
		}
		if got := nodes[0].Refused(); got != 200 {
			t.Errorf("Refused() = %d; want 200", got)
		}
		if !allKnow(nodes, 3) {
			t.Error("the farm has lost members")
		}
	})
}

// inject puts a packet in front of a node.
func (n *network) inject(to string, b []byte) {
	dest, _ := n.reach(to, to)
	dest.packets <- &memberlist.Packet{Buf: b, From: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}, Timestamp: time.Now()}
}

func TestAKeyIsRotatedOverARunningFarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := sealedFarm(t, net, 7, nil)
		for _, keys := range [][][]byte{{key(1), key(2)}, {key(2), key(1)}, {key(2)}} {
			for i, nd := range nodes {
				if err := nd.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				if i%3 == 0 {
					always(t, 2*time.Second, "all seven are there", func() bool { return allKnow(nodes, 7) })
				}
			}
			always(t, time.Minute, "all seven are there", func() bool { return allKnow(nodes, 7) })
		}
		for _, nd := range nodes {
			if got := nd.Refused(); got != 0 {
				t.Errorf("Refused() = %d on %s; want 0: all had the keys in time", got, nd.Self().ID)
			}
			for _, m := range nd.Members() {
				if !m.Gone.IsZero() {
					t.Errorf("%s was gone for %s", m.ID, nd.Self().ID)
				}
			}
		}
		for n, want := range map[byte]int{1: 7, 2: 8} {
			cfg := net.config(int(n)+8, net.address(0))
			cfg.Keys = [][]byte{key(n)}
			net.start(t, int(n)+8, cfg)
			time.Sleep(20 * time.Second)
			if got := aliveCount(nodes[3].Gossip); got < want || n == 1 && got > 8 {
				t.Errorf("%d members after one came with key %d; want %d", got, n, want)
			}
			if _, ok := nodes[3].Member(fmt.Sprintf("node-%03d", int(n)+8)); ok != (n == 2) {
				t.Errorf("who comes with key %d is a member: %v; want %v", n, ok, n == 2)
			}
		}
	})
}

func TestAFarmInTheClearIsSealedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := sealedFarm(t, net, 3, func(cfg *gossip.Config) { cfg.Keys = nil })
		for _, nd := range nodes {
			if err := nd.SetKeys([][]byte{key(1)}); err != nil {
				t.Fatal(err)
			}
		}
		always(t, time.Minute, "all three are there", func() bool { return allKnow(nodes, 3) })
		cfg := net.config(8, net.address(0))
		net.start(t, 8, cfg)
		always(t, time.Minute, "who has no key is no member", func() bool { return len(nodes[0].Members()) == 3 })
	})
}

// refusing is a set of ids that all nodes of a test refuse; it has one at most.
type refusing struct{ id atomic.Pointer[string] }

func (r *refusing) refuse(id string) bool { p := r.id.Load(); return p != nil && *p == id }

func (r *refusing) set(id string, nodes []*node) {
	r.id.Store(&id)
	for _, nd := range nodes {
		nd.Recheck()
	}
}

func TestARefusedMemberIsNoneAtOnce(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 10 * time.Minute} {
		t.Run(fmt.Sprint("readmitted after ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := newNetwork(t)
				var r refusing
				nodes := sealedFarm(t, net, 5, func(cfg *gossip.Config) { cfg.Refuse = r.refuse })
				rest := nodes[:4]
				r.set("node-004", nodes)
				for _, nd := range rest {
					if got := ringOf(nd); len(got) != 4 || len(nd.Members()) != 4 {
						t.Errorf("ring %v, %d members; want four at once", got, len(nd.Members()))
					}
				}
				always(t, after, "it stays away", func() bool {
					return !slices.ContainsFunc(rest, func(nd *node) bool { return len(nd.Members()) != 4 })
				})
				r.set("", nodes)
				eventually(t, 2*time.Minute, "it is back", func() bool { return allKnow(nodes, 5) && len(ringOf(nodes[0])) == 5 })
				always(t, time.Minute, "it stays", func() bool { return allKnow(nodes, 5) })
			})
		})
	}
}

func TestARefusedMemberDoesNotComeBackByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		var r refusing
		// The last node refuses nobody: it has not heard yet.
		last := 4
		nodes := sealedFarm(t, net, 5, func(cfg *gossip.Config) {
			if cfg.ID != fmt.Sprintf("node-%03d", last) {
				cfg.Refuse = r.refuse
			}
		})
		rest := []*node{nodes[0], nodes[1], nodes[2]}
		r.set("node-003", rest)
		snapshot := nodes[last].Snapshot()
		always(t, 3*time.Minute, "it stays away", func() bool {
			if err := nodes[0].Merge(snapshot); err != nil {
				t.Fatal(err)
			}
			return !slices.ContainsFunc(rest, func(nd *node) bool { _, ok := nd.Member("node-003"); return ok })
		})
		nodes[3].kill() // others hold its place from here on, and tell
		always(t, 3*time.Minute, "it stays away", func() bool {
			return !slices.ContainsFunc(rest, func(nd *node) bool { _, ok := nd.Member("node-003"); return ok })
		})
		if bytes.Contains(nodes[0].Snapshot(), []byte("node-003")) {
			t.Error("a snapshot names a member that is refused")
		}
	})
}

func TestTheEpochOfAMemberIsSeenByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := sealedFarm(t, net, 3, nil)
		if err := nodes[2].UpdateSelf(func(m *gossip.Member) { m.Epoch = 1 << 60 }); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the others see its epoch", func() bool {
			m, _ := nodes[0].Member("node-002")
			return m.Epoch == 1<<60
		})
	})
}
