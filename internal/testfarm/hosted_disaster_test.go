package testfarm_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
)

// loseCatalogs stops nodes, takes what they know of the catalog away, and starts them again: their copies are there.
func loseCatalogs(t *testing.T, f *testfarm.Farm, nodes ...*testfarm.Node) {
	t.Helper()
	var stops []func() error
	for _, n := range nodes {
		stops = append(stops, func() error { n.Stop(); return nil })
	}
	atOnce(t, stops...)
	for _, n := range nodes {
		if err := os.RemoveAll(filepath.Join(n.Config.DataDir, "catalog")); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.Start()
	}
	f.Settle()
}

// TestAHostedCatalogIsRebuilt loses all voters, each time with all that they knew: without a backup, then with one, then
// all but one of them.
func TestAHostedCatalogIsRebuilt(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 4})
	h := hostedAt(t, f.Nodes[0], "rebuilt/app")
	checks := 0
	tags := map[string]string{} // what each tag should be; "" where it was deleted
	image := h.pushImage("image", 8000, mib, 5000)
	tags["image"] = image.Digest.String()
	m := h.small(8001, "moved")
	for i := range 5 {
		tags["moved"] = h.at(f.Nodes[i%4]).retag(m, "moved", i).digest.String()
	}
	gone := h.retag(m, "gone", 100)
	h.want(http.StatusAccepted, http.MethodDelete, "/manifests/gone", nil)
	tags["gone"] = ""
	deleted := h.at(f.Nodes[2]).retag(m, "deleted", 101)
	h.at(f.Nodes[3]).want(http.StatusAccepted, http.MethodDelete, "/manifests/"+deleted.digest.String(), nil)
	tags["deleted"] = ""
	back := h.at(f.Nodes[1]).retag(m, "back", 102)
	h.want(http.StatusAccepted, http.MethodDelete, "/manifests/back", nil)
	h.put(back, "back")
	tags["back"] = back.digest.String()

	check := func(after string) {
		t.Helper()
		for _, n := range f.Nodes {
			for tag, want := range tags {
				if got := h.at(n).resolved(tag); got != want {
					t.Errorf("after %s tag %s at %s is %q; want %q", after, tag, n.ID(), got, want)
				}
			}
			for _, ref := range []string{"image", "moved", "back", gone.digest.String()} {
				if err := h.at(n).pull(ref); err != nil {
					t.Errorf("after %s: %v", after, err)
				}
			}
			h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/"+deleted.digest.String(), nil, acceptAll...)
		}
		// All that could be done before can be done at once.
		checks++
		for i, n := range f.Nodes {
			tags["moved"] = h.at(n).retag(m, "moved", 1000*checks+i).digest.String()
			if got := h.at(f.Nodes[(i+1)%4]).resolved("moved"); got != tags["moved"] {
				t.Errorf("after %s the tag pushed at %s is %q; want %q", after, n.ID(), got, tags["moved"])
			}
		}
		h.at(f.Nodes[3]).small(uint64(8100+checks), "fresh")
		h.at(f.Nodes[2]).want(http.StatusAccepted, http.MethodDelete, "/manifests/fresh", nil)
		tags["fresh"] = ""
		for _, n := range f.Nodes {
			if got := h.at(n).resolved("fresh"); got != "" {
				t.Errorf("after %s a deleted tag at %s is %q", after, n.ID(), got)
			}
		}
	}
	check("the start")
	refuseWhileItWorks(t, f.Nodes[1])

	voters, others := f.Nodes[0].Voters()
	loseCatalogs(t, f, voters...)
	h.at(others[0]).unavailable(http.MethodGet, "/manifests/moved", nil, acceptAll...)
	r, err := voters[1].Admin().Recover(t.Context(), true)
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	if r.Tags != 3 || len(r.Incomplete) != 0 || len(r.Silent) != 0 || r.Asked != 4 {
		t.Errorf("recovered %+v; want 3 tags, nothing incomplete, 4 members asked, none silent", r)
	}
	f.SettleCatalog(f.Nodes...)
	check("recovery from the copies")

	var backup bytes.Buffer
	if _, err := f.Nodes[3].Admin().Backup(t.Context(), &backup); err != nil {
		t.Fatalf("backup: %v", err)
	}
	loseCatalogs(t, f, f.Nodes...)
	if _, err := f.Nodes[2].Admin().Restore(t.Context(), bytes.NewReader(backup.Bytes()[:backup.Len()-9]), -1, true); err == nil {
		t.Error("restore from a backup that was cut: no error")
	}
	if _, err := f.Nodes[2].Admin().Restore(t.Context(), &backup, int64(backup.Len()), true); err != nil {
		t.Fatalf("restore: %v", err)
	}
	f.SettleCatalog(f.Nodes...)
	check("a restore from a backup")

	f.SettleCatalog(f.Nodes...) // so that the one that is left knows all
	voters, _ = f.Nodes[0].Voters()
	loseCatalogs(t, f, voters[0], voters[1])
	h.at(voters[2]).unavailable(http.MethodGet, "/manifests/moved", nil, acceptAll...)
	f.Eventually("a bootstrap once the old leader is not believed in any more", func() bool {
		_, err := voters[2].Admin().Bootstrap(t.Context())
		return err == nil
	})
	f.SettleCatalog(f.Nodes...)
	check("a bootstrap by force")
}

// refuseWhileItWorks asks for a new catalog where there is no need.
func refuseWhileItWorks(t *testing.T, n *testfarm.Node) {
	t.Helper()
	admin := n.Admin()
	var backup bytes.Buffer
	if _, err := admin.Backup(t.Context(), &backup); err != nil {
		t.Fatalf("backup: %v", err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s while the catalog works: no error", what)
		}
	}
	_, err := admin.Recover(t.Context(), false)
	refused("recover", err)
	_, err = admin.Restore(t.Context(), &backup, -1, false)
	refused("restore", err)
	_, err = admin.Bootstrap(t.Context())
	refused("bootstrap", err)
	var s adminapi.CatalogStatus
	if s, err = n.Catalog(); err != nil || s.Degraded {
		t.Errorf("catalog after what was refused: %+v, %v; want it as it was", s, err)
	}
}

// TestNoCatalogIsFoundedOverHostedContent loses all that the nodes know of their catalog, and nothing else: what was
// pushed must not be taken for what nobody needs.
func TestNoCatalogIsFoundedOverHostedContent(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3, Change: func(_ int, c *node.Config) { c.Hosted.Grace = time.Second }})
	h := hostedAt(t, f.Nodes[0], "kept/app")
	image := h.pushImage("image", 8200, mib)
	h.small(8201, "small")
	for range 2 { // the second time the copies belong to a catalog that was rebuilt
		loseCatalogs(t, f, f.Nodes...)
		f.Eventually("nodes that say that their catalog is lost", func() bool {
			for _, n := range f.Nodes {
				if s, err := n.Catalog(); err != nil || s.State != adminapi.CatalogLost || !s.Degraded || s.Advice == "" {
					return false
				}
			}
			return true
		})
		if _, err := f.Nodes[1].Admin().Collect(t.Context(), false); err == nil {
			t.Error("a collection without a catalog: no error")
		}
		h.unavailable(http.MethodGet, "/manifests/image", nil, acceptAll...)
		if r, err := f.Nodes[2].Admin().Recover(t.Context(), true); err != nil || r.Tags != 2 {
			t.Fatalf("recover: %+v, %v; want 2 tags", r, err)
		}
		f.SettleCatalog(f.Nodes...)
		if got := h.resolved("image"); got != image.Digest.String() {
			t.Errorf("image is %q; want %s", got, image.Digest)
		}
	}

	// By force one may replace a catalog that works: all nodes follow.
	old, _ := f.Nodes[0].Catalog()
	if _, err := f.Nodes[1].Admin().Recover(t.Context(), true); err != nil {
		t.Fatalf("recover beside a catalog that works: %v", err)
	}
	f.Eventually("one catalog, the new one", func() bool {
		for _, n := range f.Nodes {
			if s, err := n.Catalog(); err != nil || s.ID == old.ID {
				return false
			}
		}
		return true
	})
	f.SettleCatalog(f.Nodes...)
	for _, n := range f.Nodes {
		if err := h.at(n).pull("image"); err != nil {
			t.Errorf("after the catalog was replaced: %v", err)
		}
	}
}
