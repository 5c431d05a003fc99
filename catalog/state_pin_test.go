package catalog

import (
	"testing"
	"time"
)

func TestALeaseEndsByTheClockOfTheCommands(t *testing.T) {
	s := newScript(t)
	d := blob("layer")
	take := func(node string) string { return s.must(TakeLease{d, node, 10 * time.Second}).Holder }
	if got := take("n1"); got != "n1" {
		t.Fatalf("the first to ask: %q holds the lease; want n1", got)
	}
	if got := take("n2"); got != "n1" {
		t.Errorf("one second on: %q holds the lease; want n1", got)
	}
	s.wait(6 * time.Second)
	if got := take("n1"); got != "n1" { // 8 s on, and for 10 s more
		t.Errorf("prolonging: %q holds the lease; want n1", got)
	}
	s.wait(8 * time.Second)
	if got := take("n2"); got != "n1" {
		t.Errorf("9 s after it was prolonged: %q holds the lease; want n1", got)
	}
	if got := take("n2"); got != "n2" {
		t.Errorf("10 s after it was prolonged: %q holds the lease; want n2", got)
	}
	s.must(ReleaseLease{d, "n1"})
	if got := s.view().Lease(d, s.now); got != "n2" {
		t.Errorf("after another gave it back: %q holds the lease; want n2", got)
	}
	if got := s.view().Lease(d, s.now.Add(time.Minute)); got != "" {
		t.Errorf("a minute on: %q holds the lease; want nobody", got)
	}
	s.must(ReleaseLease{d, "n2"})
	if got := take("n3"); got != "n3" {
		t.Errorf("after it was given back: %q holds the lease; want n3", got)
	}
}

func TestALeaseGivenByAClockThatWasAheadDoesNotLast(t *testing.T) {
	s := newScript(t)
	s.wait(24 * time.Hour)
	s.must(TakeLease{blob("x"), "n1", time.Minute})
	s.wait(-24 * time.Hour)
	if r := s.must(TakeLease{blob("x"), "n2", time.Minute}); r.Holder != "n2" {
		t.Errorf("with the clock set right %q holds the lease; want n2", r.Holder)
	}
}

func TestAPinEndsByTheClockOfTheCommands(t *testing.T) {
	s := newScript(t)
	until := s.now.Add(10 * time.Second)
	s.must(PutPin{"nginx:1", blob("x"), until})
	s.must(PutPin{"nginx:2", blob("y"), time.Time{}})
	if p, ok := s.view().Pin("nginx:1"); !ok || p.Digest != blob("x") || !p.Until.Equal(until) {
		t.Errorf("Pin = %+v, %v; want x until %v", p, ok, until)
	}
	s.wait(time.Hour)
	s.must(SetSetting{"anything", []byte{1}})
	if _, ok := s.view().Pin("nginx:1"); ok {
		t.Error("the pin outlived its time")
	}
	if _, ok := s.view().Pin("nginx:2"); !ok {
		t.Error("a pin without an end ended")
	}
	s.must(PutPin{"nginx:2", blob("z"), s.now.Add(time.Minute)})
	s.must(PutPin{"nginx:2", blob("z"), time.Time{}})
	s.wait(time.Hour)
	s.must(SetSetting{"anything", nil})
	if _, ok := s.view().Pin("nginx:2"); !ok {
		t.Error("a pin ended at the time of the pin before it")
	}
	if v := s.view().Setting("anything"); v != nil {
		t.Errorf("a setting that was taken away is %q", v)
	}
	s.must(Unpin{"nginx:2"})
}
