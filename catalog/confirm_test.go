package catalog

import (
	"context"
	"testing"
	"time"
)

// The leader here takes its lease for far longer than the others wait: its clock is of no use, only asking is.
func TestALeaderThatWasReplacedUnawaresGivesNoStaleAnswer(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(5, 3)
		for i, f := range all {
			f.pace = 400 * time.Millisecond
			if i == 0 {
				f.pace = 8 * time.Second
			}
			f.start()
		}
		n.votersAre(90*time.Second, 5)
		if leader := n.leaderStatus().Leader; leader != "a" {
			t.Skipf("%s leads", leader)
		}
		old := all[0].catalog.current()
		if _, err := all[0].catalog.Setting(t.Context(), "k", false); err != nil {
			t.Fatal(err)
		}
		n.split([]string{"a"}, []string{"b", "c", "d", "e"})
		n.until(6*time.Second, "a write to another leader", func() bool { return all[1].set("k", "new") == nil })
		if !old.leads() {
			t.Error("the old leader has noticed; want one that has not")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if got, err := all[0].catalog.Setting(ctx, "k", false); err == nil {
			t.Errorf("Setting of the old leader = %q; want an error", got)
		}
	})
}
