package testfarm_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// collecting is a farm that removes soon what nothing needs.
func collecting(t *testing.T, nodes int, grace time.Duration) *testfarm.Farm {
	return testfarm.StartHosting(t, testfarm.Options{Nodes: nodes, Change: func(_ int, c *node.Config) { c.Hosted.Grace = grace }})
}

func collect(t *testing.T, n *testfarm.Node, dryRun bool) adminapi.Collected {
	t.Helper()
	c, err := n.Admin().Collect(t.Context(), dryRun)
	if err != nil {
		t.Fatalf("collection at %s: %v", n.ID(), err)
	}
	for _, part := range c.Nodes {
		if part.Error != "" {
			t.Errorf("collection at %s: %s says %s", n.ID(), part.ID, part.Error)
		}
	}
	return c
}

func TestAHostedCollectionRemovesWhatNothingNeeds(t *testing.T) {
	t.Parallel()
	f := collecting(t, 3, 0)
	kept := hostedAt(t, f.Nodes[0], "gc/kept").pushImage("1", 7000, mib, 5000)
	h := hostedAt(t, f.Nodes[1], "gc/app")
	gone := h.pushImage("1", 7001, 2*mib, 6000)
	mounted := hostedAt(t, f.Nodes[2], "gc/mounted")
	shared := gone.Layers[1]
	mounted.want(http.StatusCreated, http.MethodPost, "/blobs/uploads/?mount="+shared.Digest.String()+"&from="+h.name, nil)
	config := mounted.blob([]byte(`{"architecture":"amd64","os":"linux"}`))
	m := manifestOf(t, oci.MediaTypeOCIManifest, map[string]any{
		"config": config, "layers": []oci.Descriptor{{MediaType: octets, Digest: oci.MustDigest(shared.Digest.String()), Size: shared.Size}},
	})
	mounted.put(m, "1")
	cached := put(t, f, 7002, 600<<10, "library/cached")
	pullAt(t, "library/cached", cached, f.Nodes...)

	if c := collect(t, f.Nodes[0], false); c.Unused != 0 || c.Blobs != 0 {
		t.Errorf("collection while all is needed: %+v; want nothing removed", c)
	}
	h.want(http.StatusAccepted, http.MethodDelete, "/manifests/"+gone.Digest.String(), nil)
	// Its config and its own layer are needed by nothing any more, nor is the manifest; the shared layer is.
	links := []string{gone.Config.Digest.String(), gone.Layers[0].Digest.String(), shared.Digest.String()}
	bytesGone := 3 * (gone.Config.Size + gone.Layers[0].Size + int64(len(gone.Raw)))
	checked := func(c adminapi.Collected, dryRun bool) {
		t.Helper()
		var cut []string
		for _, l := range c.Links {
			if l.Repository != h.name || l.Bytes == 0 {
				t.Errorf("collection cut %+v; want only links of %s, with their size", l, h.name)
			}
			cut = append(cut, l.Digest)
		}
		slices.Sort(cut)
		slices.Sort(links)
		if c.DryRun != dryRun || c.Unused != 3 || !slices.Equal(cut, links) || c.Blobs != 9 || c.Bytes != bytesGone || len(c.Nodes) != 3 {
			t.Errorf("collection, dry run %v: %+v; want 3 links and, on 3 nodes, 3 blobs of %d bytes in all", dryRun, c, bytesGone)
		}
	}
	// What became of the manifest is noted beside its copies after the answer, which counts as use of them.
	f.Eventually("the end of notes", func() bool { return collect(t, f.Nodes[0], true).Blobs == 9 })
	before := hostedOf(t, f.Nodes[0]).Blobs
	for _, n := range f.Nodes {
		checked(collect(t, n, true), true)
	}
	if got := hostedOf(t, f.Nodes[0]).Blobs; got != before {
		t.Errorf("%d blobs after a dry run; want %d as before", got, before)
	}
	h.want(http.StatusOK, http.MethodHead, "/blobs/"+gone.Layers[0].Digest.String(), nil)
	checked(collect(t, f.Nodes[2], false), false)
	for _, n := range f.Nodes {
		f.Eventually("the removal on every node", func() bool { return hostedOf(t, n).Blobs == before-3 })
		for _, d := range links {
			h.at(n).want(http.StatusNotFound, http.MethodGet, "/blobs/"+d, nil)
		}
		for _, i := range []struct{ repo, ref string }{{"farm.internal/gc/kept", "1"}, {"farm.internal/gc/kept", kept.Digest.String()}, {"farm.internal/gc/mounted", "1"}} {
			if err := pullImage(t.Context(), n, i.repo, i.ref); err != nil {
				t.Errorf("pull after a collection: %v", err)
			}
		}
	}
	pullAt(t, "library/cached", cached, f.Nodes...)
	if got := crossed(f, cached); got != 600<<10 {
		t.Errorf("upstream sent %d bytes of a cached blob; want it once, whatever is collected", got)
	}
	if c := collect(t, f.Nodes[1], false); c.Unused != 0 || c.Blobs != 0 {
		t.Errorf("second collection: %+v; want nothing left to remove", c)
	}
}

// TestAHostedCollectionBesidePushes has clients come back to blobs that they or others have sent before, at all nodes,
// just when the grace of those blobs ends and while one collection follows the other. What has gone by then is sent
// again; a manifest that was answered has all its blobs for good.
func TestAHostedCollectionBesidePushes(t *testing.T) {
	t.Parallel()
	grace := 3 * time.Second
	if testfarm.Slowed {
		grace = 10 * time.Second
	}
	f := collecting(t, 4, grace)
	ctx, stop := context.WithCancel(t.Context())
	var collections sync.WaitGroup
	var cut atomic.Int64
	for i := range 2 {
		collections.Go(func() {
			for ctx.Err() == nil {
				c, err := f.Nodes[2*i].Admin().Collect(t.Context(), false)
				if err != nil {
					t.Errorf("collection: %v", err)
				}
				cut.Add(int64(c.Unused))
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	const pushers = 32
	answered := make([]document, pushers)
	var pushes []func() error
	for i := range pushers {
		h := hostedAt(t, f.Nodes[i%4], fmt.Sprintf("race/app%d", i))
		pushes = append(pushes, func() (err error) {
			answered[i], err = racing(h, i, grace)
			return err
		})
	}
	atOnce(t, pushes...)
	stop()
	collections.Wait()
	if cut.Load() == 0 {
		t.Error("no collection removed anything beside the pushes")
	}
	time.Sleep(grace) // now nothing is kept for its youth
	if c := collect(t, f.Nodes[1], false); len(c.Nodes) != 4 {
		t.Errorf("collection on %d nodes; want all 4", len(c.Nodes))
	}
	for i, m := range answered {
		for _, n := range f.Nodes {
			if err := pullImage(t.Context(), n, fmt.Sprintf("farm.internal/race/app%d", i), m.digest.String()); m.raw != nil && err != nil {
				t.Errorf("pull of what was answered: %v", err)
			}
		}
	}
}

// racing pushes blobs, waits until they may be collected, and pushes an image of them: it mounts them, or looks whether
// they are there, or just sends them.
func racing(h hosted, i int, grace time.Duration) (document, error) {
	var listed []oci.Descriptor
	blobs := [][]byte{fmt.Appendf(nil, `{"os":"linux","of":%d}`, i), randomBytes(7100+uint64(i), 3000+i%3*300_000)}
	source := h
	if i%3 == 0 {
		source.name += "/source"
	}
	for _, data := range blobs {
		listed = append(listed, source.blob(data))
	}
	time.Sleep(grace - 150*time.Millisecond + time.Duration(i)*10*time.Millisecond)
	for range 10 {
		for j, data := range blobs {
			if err := h.comeBack(i, source.name, listed[j].Digest, data); err != nil {
				return document{}, err
			}
		}
		m := manifestOf(h.t, oci.MediaTypeOCIManifest, map[string]any{"config": listed[0], "layers": listed[1:]})
		r := h.do(http.MethodPut, "/manifests/1", bytes.NewReader(m.raw), "Content-Type", m.mediaType)
		if r.Status == http.StatusCreated {
			return m, nil
		}
		if r.Status != http.StatusNotFound || !bytes.Contains(r.Body, []byte("MANIFEST_BLOB_UNKNOWN")) {
			return document{}, fmt.Errorf("PUT of a manifest at %s = %d %s; want 201, or MANIFEST_BLOB_UNKNOWN", h.node.ID(), r.Status, r.Body)
		}
	}
	return document{}, fmt.Errorf("a push at %s did not come to an end", h.node.ID())
}

// comeBack sees to it that a blob is in the repository, in one of the ways that clients have.
func (h hosted) comeBack(way int, source string, d oci.Digest, data []byte) error {
	path := "/blobs/uploads/?digest=" + d.String()
	switch way % 3 {
	case 0:
		if h.do(http.MethodPost, "/blobs/uploads/?mount="+d.String()+"&from="+source, nil).Status == http.StatusCreated {
			return nil
		}
	case 1:
		if h.do(http.MethodHead, "/blobs/"+d.String(), nil).Status == http.StatusOK {
			return nil
		}
	}
	if r := h.do(http.MethodPost, path, bytes.NewReader(data)); r.Status != http.StatusCreated {
		return fmt.Errorf("POST of a blob at %s = %d %s; want 201", h.node.ID(), r.Status, r.Body)
	}
	return nil
}
