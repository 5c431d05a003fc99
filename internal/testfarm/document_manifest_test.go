package testfarm_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// manifestAt asks a node for an image's manifest by its digest.
func manifestAt(t *testing.T, n *testfarm.Node, repo string, i *images.Image) {
	t.Helper()
	r := n.Ask(t.Context(), http.MethodGet, repo+"/manifests/"+i.Digest.String(), acceptAll...)
	if r.Status != http.StatusOK || !bytes.Equal(r.Body, i.Raw) || r.Header.Get("Content-Type") != i.MediaType {
		t.Errorf("GET of manifest %s at %s = %d %s %.200s, %v; want the manifest", i.Digest, n.ID(), r.Status,
			r.Header.Get("Content-Type"), r.Body, r.Err)
	}
}

// upstreamManifests is how many manifests the stand-in was asked for.
func upstreamManifests(f *testfarm.Farm) int64 {
	s := f.Hub.Stats()
	return s.ManifestGets + s.ManifestHeads
}

func TestANewOwnerTakesAManifestFromAHolderAndNotFromTheUpstream(t *testing.T) {
	t.Parallel()
	const count = 40 // of which a fourth node owns a quarter
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	var all []*images.Image
	for seed := range uint64(count) {
		all = append(all, image(t, f, 800+seed, "library/joined", "latest", 3000))
		manifestAt(t, f.Nodes[0], "library/joined", all[seed])
	}
	joined := f.Add(func(*node.Config) {})
	f.Settle()
	owned := 0
	for _, i := range all {
		if f.Owner(oci.MustDigest(i.Digest.String())) == joined {
			owned++
		}
		manifestAt(t, joined, "library/joined", i)
	}
	if owned == 0 {
		t.Fatalf("the node that joined owns none of %d manifests; the test proves nothing", count)
	}
	if got := upstreamManifests(f); got != count {
		t.Errorf("upstream was asked %d times for %d manifests of which a node that joined owns %d; want each once", got, count, owned)
	}
}

func TestAnOwnerThatHasLostItsDataTakesAManifestFromAHolder(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	i := image(t, f, 850, "library/emptied", "latest", 3000)
	owner := f.Owner(oci.MustDigest(i.Digest.String()))
	others := f.Others(owner)
	manifestAt(t, others[0], "library/emptied", i)
	owner.Stop()
	for _, name := range []string{"blobs", "partial", "index.db"} {
		if err := os.RemoveAll(filepath.Join(owner.Config.DataDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	owner.Start()
	f.Settle()
	manifestAt(t, others[1], "library/emptied", i)
	manifestAt(t, owner, "library/emptied", i)
	if got := upstreamManifests(f); got != 1 {
		t.Errorf("upstream was asked %d times for a manifest whose owner lost its data; want once", got)
	}
}

func TestAManifestOfAHolderIsConfirmedToAnotherRepository(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	i := image(t, f, 855, "library/with", "latest", 3000)
	if err := i.AddTo(f.Hub, "library/also", "latest"); err != nil {
		t.Fatal(err)
	}
	owner := f.Owner(oci.MustDigest(i.Digest.String()))
	manifestAt(t, f.Others(owner)[0], "library/with", i)
	owner.Stop()
	for _, name := range []string{"blobs", "index.db"} {
		if err := os.RemoveAll(filepath.Join(owner.Config.DataDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	owner.Start()
	f.Settle()
	before := f.Hub.Stats()
	if r := owner.Ask(t.Context(), http.MethodGet, "library/without/manifests/"+i.Digest.String(), acceptAll...); r.Status != http.StatusNotFound {
		t.Errorf("GET of a manifest that another node holds through a repository without it = %d %.200s; want 404", r.Status, r.Body)
	}
	manifestAt(t, owner, "library/also", i)
	s := f.Hub.Stats()
	if gets, heads := s.ManifestGets-before.ManifestGets, s.ManifestHeads-before.ManifestHeads; gets != 0 || heads != 2 {
		t.Errorf("two further repositories of a manifest that is held cost %d GETs and %d HEADs; want a HEAD for each", gets, heads)
	}
}

func TestWithTheUpstreamAndTheOwnersLostANodeServesWhatAnotherHolds(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 6, Change: ttl(1)})
	i := image(t, f, 860, "library/left", "latest", 2*mib, 3000)
	repo := oci.Repository{Upstream: oci.DockerHub, Path: "library/left"}
	tagOwner, owner := f.OwnerOfTag(repo, "latest"), f.Owner(oci.MustDigest(i.Digest.String()))
	rest := f.Others(tagOwner, owner)
	holder, without := rest[0], rest[1]
	if err := pullImage(t.Context(), holder, "library/left", "latest"); err != nil {
		t.Fatal(err)
	}
	f.Hub.MustFault(hub.Fault{Do: hub.Refuse})
	tagOwner.Stop()
	owner.Stop()
	if err := pullImage(t.Context(), without, "library/left", "latest"); err != nil {
		t.Error(err)
	}
	r := without.Ask(t.Context(), http.MethodGet, "library/left/manifests/latest", acceptAll...)
	if r.Status != http.StatusOK || r.Header.Get("Warning") == "" || !bytes.Equal(r.Body, i.Raw) {
		t.Errorf("GET of a tag that another node knows = %d, Warning %q; want it with a warning", r.Status, r.Header.Get("Warning"))
	}
	stale := 0.0
	for _, n := range rest {
		stale += n.Metric("p2pd_node_stale_answers_total")
	}
	if stale == 0 {
		t.Error("no node has counted a stale answer")
	}
}

func TestAManifestThatTheDiskDoesNotTakeIsAskedForOnce(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { c.Store.MaxBytes = 1 }})
	i := image(t, f, 899, "library/nodisk", "latest", 3000)
	d := i.Digest.String()
	before := f.Hub.Stats().ManifestGets
	for range 3 {
		if r := f.Nodes[0].Ask(t.Context(), http.MethodGet, "library/nodisk/manifests/"+d, acceptAll...); r.Status != http.StatusOK {
			t.Fatalf("GET of a manifest without room on the disk = %d %s", r.Status, r.Body)
		}
	}
	if got := f.Hub.Stats().ManifestGets - before; got != 1 {
		t.Errorf("the upstream was asked for a manifest %d times; want once, and then from memory", got)
	}
}
