package testfarm_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// ttl sets how long a tag is taken for true.
func ttl(d time.Duration) func(int, *node.Config) {
	return func(_ int, c *node.Config) {
		u := c.Upstreams[oci.DockerHub]
		u.TagTTL = d
		c.Upstreams[oci.DockerHub] = u
	}
}

func TestATagWithinItsTTLCostsNoUpstreamRequestAndAfterItOneHead(t *testing.T) {
	t.Parallel()
	const fresh = 2 * time.Second
	f := testfarm.Start(t, testfarm.Options{Nodes: 4, Change: ttl(fresh)})
	i := image(t, f, 400, "library/tagged", "latest", mib)
	ask := func() {
		t.Helper()
		var asks []func() error
		for _, n := range f.Nodes {
			for range 3 {
				asks = append(asks, func() error {
					r := n.Ask(t.Context(), http.MethodGet, "library/tagged/manifests/latest", acceptAll...)
					if r.Status != http.StatusOK || !bytes.Equal(r.Body, i.Raw) {
						t.Errorf("GET of a tag at %s = %d, %v: %s", n.ID(), r.Status, r.Err, r.Body)
					}
					return nil
				})
			}
		}
		atOnce(t, asks...)
	}
	start := time.Now()
	ask()
	first := f.Hub.Stats()
	if first.ManifestGets != 1 || first.ManifestHeads > 1 {
		t.Errorf("12 clients at 4 nodes cost %d GETs and %d HEADs; want 1 GET and at most 1 HEAD", first.ManifestGets, first.ManifestHeads)
	}
	for range 3 {
		ask()
	}
	within := f.Hub.Stats()
	if time.Since(start) < fresh && (within.ManifestGets != first.ManifestGets || within.ManifestHeads != first.ManifestHeads) {
		t.Errorf("within tag_ttl the upstream saw %d GETs and %d HEADs more; want none",
			within.ManifestGets-first.ManifestGets, within.ManifestHeads-first.ManifestHeads)
	}
	time.Sleep(fresh + 500*time.Millisecond) // tag_ttl is over everywhere
	ask()
	after := f.Hub.Stats()
	if gets, heads := after.ManifestGets-within.ManifestGets, after.ManifestHeads-within.ManifestHeads; gets != 0 || heads != 1 {
		t.Errorf("after tag_ttl 12 clients at 4 nodes cost %d GETs and %d HEADs; want one HEAD for the farm", gets, heads)
	}
}

func TestATagThatMovesIsSeenAfterItsTTL(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: ttl(100 * time.Millisecond)})
	image(t, f, 401, "library/moving", "latest", mib)
	for _, n := range f.Nodes {
		if err := pullImage(t.Context(), n, "library/moving", "latest"); err != nil {
			t.Fatal(err)
		}
	}
	moved := image(t, f, 402, "library/moving", "latest", mib)
	for _, n := range f.Nodes {
		f.Eventually("the tag's new digest", func() bool {
			r := n.Ask(t.Context(), http.MethodHead, "library/moving/manifests/latest", acceptAll...)
			return r.Header.Get("Docker-Content-Digest") == moved.Digest.String()
		})
	}
	if err := f.Hub.DeleteTag("library/moving", "latest"); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		f.Eventually("404 for a tag that is gone", func() bool {
			return n.Ask(t.Context(), http.MethodGet, "library/moving/manifests/latest", acceptAll...).Status == http.StatusNotFound
		})
	}
}

func TestEightNodesPullingOneTagCostOneManifestGetForEachDigest(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 8, Hub: hub.Config{PullLimit: 100}})
	single := image(t, f, 410, "library/single", "latest", mib, mib)
	var platforms []*images.Image
	for seed := range uint64(2) {
		i, err := images.Random(t.TempDir(), 411+seed, mib)
		if err != nil {
			t.Fatal(err)
		}
		platforms = append(platforms, i)
	}
	index, err := images.Index(platforms...)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AddTo(f.Hub, "library/index", "latest"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		repo string
		want int64
	}{{"library/single", 1}, {"library/index", 2}} {
		before := f.Hub.Stats()
		var pulls []func() error
		for _, n := range f.Nodes {
			pulls = append(pulls, func() error { return pullImage(t.Context(), n, c.repo, "latest") })
		}
		atOnce(t, pulls...)
		after := f.Hub.Stats()
		if got := after.ManifestGets - before.ManifestGets; got != c.want {
			t.Errorf("8 nodes pulling %s at once cost %d manifest GETs; want %d: %v", c.repo, got, c.want, after.Manifests)
		}
		if got := after.ManifestHeads - before.ManifestHeads; got > c.want {
			t.Errorf("8 nodes pulling %s at once cost %d manifest HEADs; want at most %d", c.repo, got, c.want)
		}
	}
	want := single.UniqueBytes() - single.Size + platforms[0].UniqueBytes() - platforms[0].Size
	if got := f.Hub.Stats().BlobBytes; got != want {
		t.Errorf("upstream sent %d bytes of blobs; want %d", got, want)
	}
}

func TestAManifestThatCameThroughAnotherRepositoryIsConfirmedByAHead(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	i := image(t, f, 415, "library/one", "latest", mib)
	if err := i.AddTo(f.Hub, "library/two", "latest"); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"library/one", "library/two"} {
		for _, n := range f.Nodes {
			if err := pullImage(t.Context(), n, repo, i.Digest.String()); err != nil {
				t.Error(err)
			}
		}
	}
	for _, n := range f.Nodes {
		r := n.Ask(t.Context(), http.MethodGet, "library/three/manifests/"+i.Digest.String(), acceptAll...)
		if r.Status != http.StatusNotFound || !bytes.Contains(r.Body, []byte("MANIFEST_UNKNOWN")) {
			t.Errorf("GET of a cached manifest through a repository without it at %s = %d %s; want 404", n.ID(), r.Status, r.Body)
		}
	}
	if s := f.Hub.Stats(); s.ManifestGets != 1 {
		t.Errorf("upstream answered %d manifest GETs: %v; want one, and HEADs for the other repositories", s.ManifestGets, s.Manifests)
	}
}

func TestTagsAndReferrersAreAskedForOncePerTTL(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	i := image(t, f, 420, "library/lists", "one", mib)
	for range 2 {
		for _, n := range f.Nodes {
			if r := n.Ask(t.Context(), http.MethodGet, "library/lists/tags/list"); r.Status != http.StatusOK || !bytes.Contains(r.Body, []byte(`"one"`)) {
				t.Errorf("tags list at %s = %d %s", n.ID(), r.Status, r.Body)
			}
			if r := n.Ask(t.Context(), http.MethodGet, "library/lists/referrers/"+i.Digest.String()); r.Status != http.StatusOK {
				t.Errorf("referrers at %s = %d %s", n.ID(), r.Status, r.Body)
			}
		}
	}
	if s := f.Hub.Stats(); s.TagLists != 1 || s.Referrers != 1 {
		t.Errorf("upstream answered %d tags lists and %d referrers lists; want one each", s.TagLists, s.Referrers)
	}
}
