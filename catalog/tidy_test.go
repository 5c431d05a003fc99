package catalog

import (
	"testing"
	"time"
)

func TestTheLeaderEndsWhatIsOverAndWritesNothingElse(t *testing.T) {
	seeds(t, 1, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(3, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 3)
		if err := all[0].push("r", "t", "x"); err != nil {
			t.Fatal(err)
		}
		for _, a := range []Action{
			PutPin{"p", manifestOf(1), time.Now().Add(10 * time.Second)},
			DeleteTag{"r", "t"},
			TakeLease{manifestOf(2), "a", 20 * time.Second},
		} {
			if _, err := all[1].catalog.Apply(t.Context(), Command{Do: a}); err != nil {
				t.Fatal(err)
			}
		}
		view := func() View {
			v, err := all[2].catalog.Read(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		time.Sleep(8 * time.Second)
		if _, ok := view().Pin("p"); !ok {
			t.Error("the pin has ended too early")
		}
		time.Sleep(5 * time.Second)
		if _, ok := view().Pin("p"); ok {
			t.Error("the pin has not ended 3 s after its time")
		}
		time.Sleep(90 * time.Second)
		if n := view().s.leases.len(); n != 0 {
			t.Errorf("%d leases are kept; want none", n)
		}
		before := view().Index()
		time.Sleep(65 * time.Minute)
		if after := view().Index(); after != before {
			t.Errorf("a quiet catalog went from index %d to %d", before, after)
		}
		if _, ok := view().Buried("r", "t"); !ok {
			t.Error("the deletion was forgotten too early")
		}
	})
}

func TestOldTombstonesAreOver(t *testing.T) {
	s := newScript(t)
	put := image("app", "m")
	put.Tags = []string{"1"}
	s.must(put)
	s.must(DeleteTag{"app", "1"})
	if s.view().buriedBefore(s.now) {
		t.Error("a tombstone is older than itself")
	}
	if !s.view().buriedBefore(s.now.Add(1)) {
		t.Error("an old tombstone is not seen")
	}
}
