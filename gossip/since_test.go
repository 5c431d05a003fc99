package gossip_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/gossip"
)

func TestAMemberIsThereSinceItsLifeWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		nodes := farm(t, net, 3)
		time.Sleep(time.Minute)
		before, _ := nodes[0].Member("node-002")
		if got := time.Since(before.Since); got < time.Minute || got > 2*time.Minute || !before.Gone.IsZero() {
			t.Fatalf("there since %v ago, gone %v; want since it came", got, before.Gone)
		}
		if err := nodes[2].UpdateSelf(func(m *gossip.Member) { m.Zone = "zone-9" }); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "its news have come", func() bool {
			m, _ := nodes[0].Member("node-002")
			return m.Zone == "zone-9" && m.Since.Equal(before.Since)
		})
		nodes[2].stop()
		eventually(t, 10*time.Second, "it is gone", func() bool {
			m, _ := nodes[0].Member("node-002")
			return m.State == gossip.Gone && time.Since(m.Gone) < 10*time.Second && m.Since.Equal(before.Since)
		})
		cfg := net.config(2, net.address(0))
		cfg.BootID = "boot-2"
		time.Sleep(time.Minute)
		net.start(t, 2, cfg)
		eventually(t, 10*time.Second, "its next life has begun", func() bool {
			m, _ := nodes[0].Member("node-002")
			return m.BootID == "boot-2" && m.Gone.IsZero() && time.Since(m.Since) < 10*time.Second
		})
	})
}

func TestSeatsAreOfTheSeedListAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork(t)
		first := net.config(0, net.address(0), net.address(1))
		second := net.config(1)
		second.Known = []string{net.address(0)}
		a := net.start(t, 0, first)
		b := net.start(t, 1, second)
		eventually(t, 10*time.Second, "they know each other", func() bool { return aliveCount(a.Gossip) == 2 && aliveCount(b.Gossip) == 2 })
		if got := a.Seats("node-000"); !slices.Equal(got, []string{net.address(0)}) {
			t.Errorf("own Seats = %q; want its own address", got)
		}
		if got := a.Seats("node-001"); !slices.Equal(got, []string{net.address(1)}) {
			t.Errorf("Seats(node-001) = %q; want its address", got)
		}
		if got := b.Seats("node-000"); len(got) != 0 {
			t.Errorf("Seats(node-000) = %q of a node without seeds; want none", got)
		}
	})
}
