package catalog

import (
	"bytes"
	"testing"
	"time"
)

func TestTheCatalogWorksThroughGRPC(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *fakeNetwork) {
		n.real = true
		all := n.farmOf(7, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		for _, f := range all {
			if err := f.push("r", "t", f.id); err != nil {
				t.Fatalf("push through %s = %v", f.id, err)
			}
			n.reads("r", "t", f.id)
		}
		for _, f := range all { // two of them keep no replica
			var backup bytes.Buffer
			if err := f.catalog.Backup(t.Context(), &backup); err != nil {
				t.Errorf("Backup on %s = %v", f.id, err)
			}
			if s, err := readSnapshot(&backup); err != nil || s.tags.len() != 1 {
				t.Errorf("backup from %s: %v; want one tag", f.id, err)
			}
		}
		leader := n.nodes[n.leaderStatus().Leader]
		leader.crash()
		n.until(15*time.Second, "another leader", func() bool {
			for _, f := range all {
				if f != leader && f.push("r", "t", "after") != nil {
					return false
				}
			}
			return true
		})
		n.reads("r", "t", "after")
	})
}
