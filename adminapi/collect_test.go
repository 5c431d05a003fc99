package adminapi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

func TestAFarmThatAnswersIsShownAsSoonAsAllHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "c"}, member{id: "b", takes: 300 * time.Millisecond}, member{id: "a", takes: time.Millisecond})
		s, took := collect(t, f)
		if took != 300*time.Millisecond {
			t.Errorf("Collect took %v; want the slowest member's 300ms", took)
		}
		if s.Self != "c" || s.Farm != "test" || s.SchemaVersion != adminapi.SchemaVersion {
			t.Errorf("Collect() = self %q, farm %q, schema %d; want c, test, %d", s.Self, s.Farm, s.SchemaVersion, adminapi.SchemaVersion)
		}
		var ids []string
		for _, m := range s.Members {
			ids = append(ids, m.ID)
			if !m.Answered || m.Error != "" || m.Node == nil || m.Node.ID != m.ID {
				t.Errorf("member %s: %+v; want its own answer", m.ID, m)
			}
		}
		if !slices.Equal(ids, []string{"a", "b", "c"}) {
			t.Errorf("members are %v; want a, b, c", ids)
		}
		if got := byID(t, s, "b").Millis; got != 300 {
			t.Errorf("b took %d ms; want 300", got)
		}
		if s.Degraded || !s.Ring.Agree || len(s.Warnings) != 0 {
			t.Errorf("degraded %v, ring %+v, warnings %v; want a healthy farm", s.Degraded, s.Ring, s.Warnings)
		}
		if _, asked := f.asked.Load("c"); asked {
			t.Error("the node asked itself over the network")
		}
	})
}

func TestAMemberThatHangsIsShownSoAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, took := collect(t, newFarm(member{id: "a"}, member{id: "b", takes: hangs}, member{id: "c", takes: time.Second},
			member{id: "d", takes: 3 * time.Second}))
		if took != 2*time.Second {
			t.Errorf("Collect took %v; want 2s", took)
		}
		for _, id := range []string{"b", "d"} {
			m := byID(t, s, id)
			if m.Answered || m.Node != nil || m.Error != "no answer within 2s" || m.Millis != 2000 {
				t.Errorf("%s: %+v; want no answer within 2s", id, m)
			}
		}
		if c := byID(t, s, "c"); !c.Answered {
			t.Errorf("c: %+v; want its answer", c)
		}
		want := []adminapi.Warning{
			{Kind: adminapi.WarnUnreachable, Member: "b", Text: "does not answer: no answer within 2s"},
			{Kind: adminapi.WarnUnreachable, Member: "d", Text: "does not answer: no answer within 2s"},
		}
		if !s.Degraded || !slices.Equal(s.Warnings, want) {
			t.Errorf("degraded %v, warnings %v; want true, %v", s.Degraded, s.Warnings, want)
		}
		if s.Totals.Members != 4 || s.Totals.Answered != 2 {
			t.Errorf("totals are of %d of %d members; want 2 of 4", s.Totals.Answered, s.Totals.Members)
		}
	})
}

func TestAThousandMembersAreAskedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, took := collect(t, newFarm(thousand(func(int) time.Duration { return 20 * time.Millisecond })...))
		if s.Totals.Answered != 1000 || s.Degraded {
			t.Errorf("%d of 1000 answered, degraded %v; want all, false", s.Totals.Answered, s.Degraded)
		}
		if took != 16*20*time.Millisecond {
			t.Errorf("Collect took %v; want 16 rounds of 20ms", took)
		}
	})
}

func TestNoMoreThanTheBoundAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(thousand(func(int) time.Duration { return 20 * time.Millisecond })...)
		collect(t, f)
		if got := f.maxAtOnce.Load(); got != 64 {
			t.Errorf("%d members were asked at once; want 64", got)
		}
	})
}

func TestHundredsThatHangKeepNobodyFromBeingAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(thousand(func(i int) time.Duration {
			if i < 900 {
				return hangs
			}
			return 200 * time.Millisecond
		})...)
		s, took := collect(t, f)
		if took != 2*time.Second {
			t.Errorf("Collect took %v; want 2s", took)
		}
		for _, m := range s.Members {
			if want := m.ID == "m0000" || m.ID >= "m0900"; m.Answered != want {
				t.Errorf("%s answered: %v (%s); want %v", m.ID, m.Answered, m.Error, want)
			}
		}
	})
}

// thousand makes m0000 to m0999.
func thousand(takes func(i int) time.Duration) []member {
	var out []member
	for i := range 1000 {
		out = append(out, member{id: fmt.Sprintf("m%04d", i), takes: takes(i)})
	}
	return out
}

func TestWhatAMemberAnsweredWrongIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"}, member{id: "b", fails: errors.New("connection refused")}, member{id: "c"},
			member{id: "d", fails: errors.New(strings.Repeat("ä", 1000))})
		f.members[2].node.ID = "other"
		s, took := collect(t, f)
		if took != 0 {
			t.Errorf("Collect took %v; want no waiting", took)
		}
		if b := byID(t, s, "b"); b.Answered || b.Error != "connection refused" {
			t.Errorf("b: %+v; want connection refused", b)
		}
		if c := byID(t, s, "c"); c.Answered || c.Node != nil || c.Error != `another node answers at its address: "other"` {
			t.Errorf("c: %+v; want no answer from another node", c)
		}
		if d := byID(t, s, "d"); len(d.Error) > 310 || !strings.HasSuffix(d.Error, "ä...") {
			t.Errorf("d's error has %d bytes: %q; want it clipped at a rune", len(d.Error), d.Error)
		}
	})
}

func TestAMemberThatLeftIsNeitherAskedNorMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"}, member{id: "b", state: adminapi.StateLeft, takes: hangs})
		s, took := collect(t, f)
		if _, asked := f.asked.Load("b"); asked || took != 0 {
			t.Errorf("asked: %v, took %v; want neither", asked, took)
		}
		if s.Degraded || byID(t, s, "b").Answered {
			t.Errorf("degraded %v, b %+v; want a farm that is well without b", s.Degraded, byID(t, s, "b"))
		}
	})
}

func TestAlarmsAndDifferentRingsDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"}, member{id: "b"}, member{id: "c"}, member{id: "d"})
		f.members[0].node.Ring.Hash = "00000000000000bb"
		f.members[1].node.Store.Alarm = "disk full"
		f.members[1].node.Alarms = []string{"disk full"} // once is enough
		f.members[2].node.Alarms = []string{"clock is off"}
		f.members[3].node.RingDisagreements = []string{"a for 3m"}
		f.members[3].node.Trust = adminapi.TrustNone
		s, _ := collect(t, f)
		want := []adminapi.Warning{
			{Kind: adminapi.WarnRing, Member: "a", Text: "its ring is 00000000000000bb, that of most is 00000000000000aa"},
			{Kind: adminapi.WarnAlarm, Member: "b", Text: "disk full"},
			{Kind: adminapi.WarnAlarm, Member: "c", Text: "clock is off"},
			{Kind: adminapi.WarnRing, Member: "d", Text: "a for 3m"},
			{Kind: adminapi.WarnTrust, Text: "trust mode is none on 1 of 4 members: whoever reaches their ports can read and offer blobs"},
		}
		if !slices.Equal(s.Warnings, want) {
			t.Errorf("warnings are\n%v\nwant\n%v", s.Warnings, want)
		}
		if !s.Degraded || s.Ring.Agree || s.Ring.Hash != "00000000000000aa" {
			t.Errorf("degraded %v, ring %+v; want true and the ring of most", s.Degraded, s.Ring)
		}
	})
}

func TestTrustNoneAloneIsNoDegradation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"})
		f.members[0].node.Trust = adminapi.TrustNone
		if s, _ := collect(t, f); s.Degraded || len(s.Warnings) != 1 {
			t.Errorf("degraded %v, warnings %v; want false and one", s.Degraded, s.Warnings)
		}
	})
}

func TestAMemberThatIsSilentIsNamedWithItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"}, member{id: "b", state: adminapi.StateGone, fails: errors.New("is gone")},
			member{id: "c", fails: errors.New("connection refused")}, member{id: "d", state: adminapi.StateGone, fails: errors.New("is gone")})
		f.members[1].peer, f.members[2].peer = "10.0.0.2:7947", "10.0.0.3:7947"
		s, _ := collect(t, f)
		want := []adminapi.Warning{
			{Kind: adminapi.WarnUnreachable, Member: "b", Text: "is gone (10.0.0.2:7947)"},
			{Kind: adminapi.WarnUnreachable, Member: "c", Text: "does not answer: 10.0.0.3:7947: connection refused"},
			{Kind: adminapi.WarnUnreachable, Member: "d", Text: "is gone"},
		}
		if !s.Degraded || !slices.Equal(s.Warnings, want) {
			t.Errorf("degraded %v, warnings\n%v\nwant true,\n%v", s.Degraded, s.Warnings, want)
		}
	})
}

func TestAnUpstreamOutOfReachIsPointedOutAndDegradesWhenNobodyReachesIt(t *testing.T) {
	for _, test := range []struct {
		name     string
		links    []adminapi.UpstreamLink // of each member
		text     string                  // "": no warning
		degraded bool
	}{
		{"all reach it", []adminapi.UpstreamLink{{Requests: 3}, {}}, "", false},
		{"one does not", []adminapi.UpstreamLink{{Requests: 3, OpenBreaker: true}, {Requests: 1}, {}}, "docker.io cannot be reached from 1 of 3 members", false},
		{"none does", []adminapi.UpstreamLink{{Requests: 3, OpenBreaker: true}, {Requests: 2, OpenBreaker: true}}, "docker.io cannot be reached from 2 of 2 members", true},
		{"who has not asked does not know", []adminapi.UpstreamLink{{Requests: 3, OpenBreaker: true}, {}}, "docker.io cannot be reached from 1 of 2 members", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var members []member
				for i, link := range test.links {
					m := member{id: fmt.Sprint(i)}
					m.node.Upstream.Upstreams = map[string]adminapi.UpstreamLink{"docker.io": link}
					members = append(members, m)
				}
				s, _ := collect(t, newFarm(members...))
				var want []adminapi.Warning
				if test.text != "" {
					want = []adminapi.Warning{{Kind: adminapi.WarnUpstream, Text: test.text}}
				}
				if s.Degraded != test.degraded || !slices.Equal(s.Warnings, want) {
					t.Errorf("degraded %v, warnings %v; want %v, %v", s.Degraded, s.Warnings, test.degraded, want)
				}
			})
		})
	}
}

func TestTrustThatReachesNoOtherMachineIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(member{id: "a"})
		f.members[0].node.Trust = adminapi.TrustLoopback
		if s, _ := collect(t, f); s.Degraded || len(s.Warnings) != 0 {
			t.Errorf("degraded %v, warnings %v; want neither", s.Degraded, s.Warnings)
		}
	})
}

func TestOfTwoRingsThatAsManyHaveTheAskersIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 { // the order of a map must not matter
			f := newFarm(member{id: "a"}, member{id: "b"})
			f.members[0].node.Ring.Hash = "00000000000000ff"
			s, _ := collect(t, f)
			if s.Ring.Hash != "00000000000000ff" || s.Ring.Agree {
				t.Fatalf("ring is %+v; want that of a, with disagreement", s.Ring)
			}
		}
	})
}

func TestWithoutItsOwnViewThereIsNoStatus(t *testing.T) {
	f := newFarm(member{id: "a"})
	f.broken = errors.New("stopped")
	if _, err := adminapi.Collect(t.Context(), f, time.Second); !errors.Is(err, f.broken) {
		t.Errorf("Collect() = %v; want %v", err, f.broken)
	}
}

func TestWhoGivesUpDoesNotWaitForMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, nil)
		defer cancel()
		start := time.Now()
		_, err := adminapi.Collect(ctx, newFarm(member{id: "a"}, member{id: "b", takes: hangs}), time.Minute)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Collect() = %v after %v; want an error after 1s", err, time.Since(start))
		}
	})
}
