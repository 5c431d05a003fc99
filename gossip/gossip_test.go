package gossip_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/ring"
)

func aliveCount(g *gossip.Gossip) int {
	count := 0
	for _, m := range g.Members() {
		if m.Alive() {
			count++
		}
	}
	return count
}

func ringOf(nd *node) []string { return ids(nd.RingMembers()) }

func farm(t *testing.T, net *network, n int) []*node {
	t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		nodes[i] = net.start(t, i, net.config(i, net.address(0), net.address(1)))
	}
	eventually(t, 10*time.Second, fmt.Sprintf("%d nodes know each other", n), func() bool {
		return !slices.ContainsFunc(nodes, func(nd *node) bool { return len(nd.RingMembers()) != n })
	})
	return nodes
}

func TestNodesJoinThroughSeedsInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		synctest.Test(t, func(t *testing.T) {
			net := newNetwork(t)
			var nodes []*node
			for _, i := range order {
				nodes = append(nodes, net.start(t, i, net.config(i, net.address(0), net.address(1), net.address(2))))
				time.Sleep(time.Second)
			}
			for _, nd := range nodes {
				eventually(t, 20*time.Second, "all three are in its ring", func() bool {
					return slices.Equal(ringOf(nd), []string{"node-000", "node-001", "node-002"})
				})
				<-nd.Joined()
			}
			m, _ := nodes[0].Member("node-001")
			if m.PeerAddr != "10.0.0.2:7947" || m.GossipAddr != "10.0.0.2:7946" || m.Zone != "zone-1" || !m.Egress {
				t.Errorf("Member(node-001) = %+v; want what node-001 says of itself", m)
			}
		})
	}
}

func TestSeedsThatAreDownAtStartAreAskedUntilTheyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		lone := net.start(t, 5, net.config(5, net.address(0)))
		time.Sleep(10 * time.Minute)
		if got := ringOf(lone); !slices.Equal(got, []string{"node-005"}) {
			t.Fatalf("RingMembers() = %v while no seed answers; want the node alone", got)
		}
		select {
		case <-lone.Joined():
			t.Fatal("joined, says a node whose seeds are all down")
		default:
		}
		net.start(t, 0, net.config(0))
		eventually(t, time.Minute, "it has found the seed", func() bool { return aliveCount(lone.Gossip) == 2 })
		<-lone.Joined()
	})
}

func TestANodeThatIsItsOwnOnlySeedIsAFarmOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nd := net.start(t, 0, net.config(0, net.address(0)))
		<-nd.Joined()
		if got := ringOf(nd); len(got) != 1 {
			t.Errorf("RingMembers() = %v; want the node alone", got)
		}
	})
}

func TestAJoiningNodeHasNoPlaceInTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 3)
		fresh := net.startJoining(t, 3, net.config(3, net.address(0)))
		eventually(t, 10*time.Second, "all know of the new one", func() bool { return aliveCount(nodes[2].Gossip) == 4 })
		for _, nd := range append(nodes, fresh) {
			if got := ringOf(nd); len(got) != 3 {
				t.Errorf("RingMembers() = %v; want the three active ones", got)
			}
		}
		fresh.activate(t)
		eventually(t, 10*time.Second, "it has its place", func() bool { return len(nodes[1].RingMembers()) == 4 })
	})
}

func TestAKilledNodeKeepsItsPlaceForTheHoldDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 5)
		nodes[4].kill()
		eventually(t, time.Minute, "its death is noticed", func() bool { return aliveCount(nodes[2].Gossip) == 4 })
		if m, _ := nodes[2].Member("node-004"); m.State != gossip.Gone {
			t.Errorf("State = %q; want gone", m.State)
		}
		always(t, 8*time.Minute, "the ring has all five", func() bool { return len(nodes[2].RingMembers()) == 5 })
		eventually(t, 4*time.Minute, "its hold-down is over everywhere", func() bool {
			return !slices.ContainsFunc(nodes[:4], func(nd *node) bool {
				return len(nd.RingMembers()) != 4 || len(nd.Members()) != 4
			})
		})
	})
}

func TestAStoppedNodeKeepsItsPlaceAndIsMissedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 5)
		nodes[4].stop()
		eventually(t, 2*time.Second, "all know that it has gone", func() bool {
			return !slices.ContainsFunc(nodes[:4], func(nd *node) bool { return aliveCount(nd.Gossip) != 4 })
		})
		if got := ringOf(nodes[0]); len(got) != 5 {
			t.Errorf("RingMembers() = %v; want all five during the hold-down", got)
		}
	})
}

func TestANodeThatLeavesGivesUpItsPlaceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 5)
		if err := nodes[4].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Second, "the ring has four", func() bool {
			return !slices.ContainsFunc(nodes, func(nd *node) bool { return len(nd.RingMembers()) != 4 })
		})
		nodes[4].stop()
		eventually(t, 2*time.Second, "it is said to have left", func() bool {
			m, _ := nodes[0].Member("node-004")
			return m.State == gossip.Left
		})
		again := net.config(4, net.address(0))
		again.BootID = "boot-2"
		net.start(t, 4, again)
		eventually(t, 10*time.Second, "it is back after a new start", func() bool { return len(nodes[3].RingMembers()) == 5 })
	})
}

func TestARestartMovesNothing(t *testing.T) {
	for _, how := range []string{"killed", "stopped", "killed for long"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := newNetwork(t)
				nodes := farm(t, net, 5)
				check := func(nd *node) func() bool { return func() bool { return len(nd.RingMembers()) == 5 } }
				if how == "stopped" {
					nodes[4].stop()
				} else {
					nodes[4].kill()
				}
				if how == "killed for long" {
					always(t, 5*time.Minute, "all five have their place", check(nodes[0]))
				}
				cfg := net.config(4, net.address(0))
				cfg.BootID, cfg.Egress = "boot-2", false // not yet known to have egress
				back := net.startJoining(t, 4, cfg)
				always(t, 30*time.Second, "all five have their place", check(nodes[0]))
				for _, nd := range append(nodes[:4], back) {
					eventually(t, 10*time.Second, "all five have their place", check(nd))
					m, _ := nd.Member("node-004")
					if m.State != gossip.Joining || m.BootID != "boot-2" {
						t.Errorf("node-004 = %+v; want it joining with its new boot id", m)
					}
					if i := slices.Index(ringOf(nd), "node-004"); !nd.RingMembers()[i].Egress {
						t.Errorf("a restart has changed the egress that the ring goes by")
					}
				}
				back.activate(t)
				always(t, time.Minute, "all five have their place", check(nodes[0]))
			})
		})
	}
}

func TestANewcomerHasTheRingOfTheOthersDuringAHoldDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 5)
		nodes[4].kill()
		time.Sleep(3 * time.Minute) // long enough for memberlist to forget it
		fresh := net.start(t, 9, net.config(9, net.address(0)))
		want := []string{"node-000", "node-001", "node-002", "node-003", "node-004", "node-009"}
		for _, nd := range append(nodes[:4], fresh) {
			eventually(t, 10*time.Second, "it has the same ring", func() bool { return slices.Equal(ringOf(nd), want) })
		}
		eventually(t, 8*time.Minute, "the newcomer ends the hold-down with the others", func() bool {
			return len(fresh.RingMembers()) == 5
		})
		eventually(t, 2*time.Second, "so do the others", func() bool { return len(nodes[2].RingMembers()) == 5 })
	})
}

func TestASplitFarmGrowsTogetherAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 6)
		left := func(address string) bool { return address <= net.address(2) }
		net.setCut(func(from, to string) bool { return left(from) != left(to) })
		eventually(t, 2*time.Minute, "the halves have lost each other", func() bool {
			return aliveCount(nodes[0].Gossip) == 3 && aliveCount(nodes[5].Gossip) == 3
		})
		time.Sleep(2 * time.Minute)
		net.setCut(nil)
		for _, nd := range nodes {
			eventually(t, 2*time.Minute, "all are back", func() bool { return aliveCount(nd.Gossip) == 6 })
			if len(nd.RingMembers()) != 6 {
				t.Errorf("RingMembers() = %v; want all six", ringOf(nd))
			}
		}
	})
}

func TestMembersOfAPeerAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		one, two := net.start(t, 0, net.config(0)), net.start(t, 1, net.config(1))
		time.Sleep(time.Minute)
		if aliveCount(one.Gossip) != 1 {
			t.Fatal("two farms of one have met by themselves")
		}
		if err := one.Merge(two.Snapshot()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "they are one farm", func() bool {
			return aliveCount(one.Gossip) == 2 && aliveCount(two.Gossip) == 2
		})
		if err := one.Merge([]byte("garbage")); err == nil {
			t.Error("Merge(garbage) = nil; want an error")
		}
	})
}

func TestAnotherFarmIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		one := net.start(t, 0, net.config(0))
		cfg := net.config(1, net.address(0))
		cfg.Farm = "another"
		two := net.start(t, 1, cfg)
		time.Sleep(5 * time.Minute)
		if len(one.Members()) != 1 || len(two.Members()) != 1 {
			t.Errorf("Members() = %v and %v; want each farm for itself", ids(one.Members()), ids(two.Members()))
		}
		if err := one.Merge(two.Snapshot()); err == nil {
			t.Error("Merge of another farm's snapshot = nil; want an error")
		}
	})
}

func TestChangesThatComeTogetherAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nd := net.start(t, 0, net.config(0))
		synctest.Wait()
		time.Sleep(5 * time.Second)
		<-nd.Changed()
		for range 10 {
			if err := nd.UpdateSelf(func(m *gossip.Member) { m.Egress = !m.Egress }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		began := time.Now()
		<-nd.Changed()
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("told %v after the last change; want within 200ms", took)
		}
		select {
		case <-nd.Changed():
			t.Error("told twice of changes that came together")
		case <-time.After(time.Minute):
		}
	})
}

func TestAnEndlessStreamOfChangesIsToldEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nd := net.start(t, 0, net.config(0))
		time.Sleep(5 * time.Second)
		<-nd.Changed()
		told := 0
		for range 200 {
			if err := nd.UpdateSelf(func(m *gossip.Member) { m.Egress = !m.Egress }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			select {
			case <-nd.Changed():
				told++
			default:
			}
		}
		if told < 4 || told > 6 {
			t.Errorf("told %d times in 10 s of changes; want every 2 s", told)
		}
	})
}

func TestRingsThatDifferForLongAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 3)
		for i, nd := range nodes {
			nd.SetRingHash(map[bool]uint64{true: 7, false: 8}[i < 2])
		}
		eventually(t, 10*time.Minute, "the odd one is named", func() bool {
			return slices.Equal(nodes[0].Disagreements(), []string{"node-002"})
		})
		if m, _ := nodes[0].Member("node-002"); m.RingHash != 8 {
			t.Errorf("RingHash of node-002 = %d; want 8", m.RingHash)
		}
		nodes[2].SetRingHash(7)
		eventually(t, 10*time.Minute, "nobody is named any more", func() bool {
			return len(nodes[0].Disagreements()) == 0 && len(nodes[2].Disagreements()) == 0
		})
	})
}

func TestFiftyNodesComeToOneRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		began := time.Now()
		nodes := farm(t, net, 50)
		t.Logf("50 nodes know each other after %v", time.Since(began))
		var hash uint64
		for i, nd := range nodes {
			var members []ring.Member
			for _, m := range nd.RingMembers() {
				members = append(members, ring.Member{ID: m.ID, Zone: m.Zone, Egress: m.Egress})
			}
			v := ring.NewBuilder(1024).Update(members)
			if i > 0 && v.Hash() != hash {
				t.Errorf("ring of node %d has hash %x; want %x like the first", i, v.Hash(), hash)
			}
			hash = v.Hash()
		}
	})
}
