package gossip

import (
	"log/slog"
	"testing"
	"time"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testConfig() Config {
	cfg := Default()
	cfg.ID, cfg.Advertise = "self", "10.0.0.1:7946"
	return cfg
}

// A member that others say has left has no place any more, though this node only
// saw it vanish; one that is back, or that was started anew since, keeps its own.
func TestNewsOfALeaveReachThoseWhoMissedIt(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name  string
		boot  string
		alive bool
		want  bool // has its place afterwards
	}{
		{"it had vanished", "boot-1", false, false},
		{"it was started anew and vanished", "boot-2", false, true},
		{"it is there", "boot-1", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tab := newTable("self", time.Minute)
			m := Member{ID: "a", BootID: tc.boot, State: Active}
			tab.alive(m, nil, now)
			if !tc.alive {
				tab.gone("a", now)
			}
			tab.merge(held{member: Member{ID: "a", BootID: "boot-1", State: Draining}, left: true}, now)
			if got := len(tab.ring()) == 1; got != tc.want {
				t.Errorf("has a place: %v; want %v", got, tc.want)
			}
		})
	}
}

func TestWhatOthersHoldForTooLongIsNotTaken(t *testing.T) {
	now := time.Now()
	tab := newTable("self", time.Minute)
	for _, gone := range []time.Duration{time.Minute, time.Hour, -time.Second} {
		if tab.merge(held{member: Member{ID: "a", State: Active}, gone: gone}, now) {
			t.Errorf("merge of a member gone for %v changed something; want nothing", gone)
		}
	}
	if !tab.merge(held{member: Member{ID: "a", State: Active}, gone: 40 * time.Second}, now) || len(tab.ring()) != 1 {
		t.Fatal("a member held by others has no place")
	}
	if _, next := tab.expire(now); !next.Equal(now.Add(20 * time.Second)) {
		t.Errorf("its place ends %v from now; want 20s", next.Sub(now))
	}
	if changed, _ := tab.expire(now.Add(20 * time.Second)); !changed || len(tab.members()) != 0 {
		t.Errorf("members after the hold-down: %v; want none", tab.members())
	}
}

func TestAMemberThatOnlyJoinsLosesItsOldPlaceInTheEnd(t *testing.T) {
	now := time.Now()
	tab := newTable("self", time.Minute)
	tab.alive(Member{ID: "a", State: Active}, nil, now)
	tab.alive(Member{ID: "a", State: Joining}, nil, now)
	if len(tab.ring()) != 1 {
		t.Fatal("a restart has moved the ring")
	}
	if changed, _ := tab.expire(now.Add(time.Minute)); !changed || len(tab.ring()) != 0 || len(tab.members()) != 1 {
		t.Errorf("ring %v, members %v; want it to be a member without a place", tab.ring(), tab.members())
	}
}
