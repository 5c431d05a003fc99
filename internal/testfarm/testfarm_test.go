package testfarm_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

const mib = 1 << 20

// TestMain lets more tests run at once than there are processors: most of them wait for a slow upstream. It fails when
// a node that has stopped left a goroutine behind; that of a cache is the cache's own, and ends when it is collected.
func TestMain(m *testing.M) {
	flag.Parse()
	if !testfarm.Slowed {
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.periodicCleanUp[...]"))
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// put gives the stand-in a blob of n bytes in all the repositories.
func put(t *testing.T, f *testfarm.Farm, seed uint64, n int, repos ...string) oci.Digest {
	t.Helper()
	data := randomBytes(seed, n)
	var d oci.Digest
	for _, repo := range repos {
		named, err := f.Hub.PutBlob(repo, data)
		if err != nil {
			t.Fatal(err)
		}
		d = oci.MustDigest(named.String())
	}
	return d
}

// image gives the stand-in an image with layers of those sizes.
func image(t *testing.T, f *testfarm.Farm, seed uint64, repo, tag string, sizes ...int64) *images.Image {
	t.Helper()
	i, err := images.Random(t.TempDir(), seed, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.AddTo(f.Hub, repo, tag); err != nil {
		t.Fatal(err)
	}
	return i
}

// crossed is how many bytes of a blob the stand-in has sent.
func crossed(f *testfarm.Farm, d fmt.Stringer) int64 { return f.Hub.Stats().Blobs[d.String()].Bytes }

// atOnce runs all functions at once and fails the test with their errors.
func atOnce(t *testing.T, all ...func() error) {
	t.Helper()
	var group sync.WaitGroup
	for _, f := range all {
		group.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// pullAt pulls a blob through all the nodes at once.
func pullAt(t *testing.T, repo string, d fmt.Stringer, nodes ...*testfarm.Node) {
	t.Helper()
	var all []func() error
	for _, n := range nodes {
		all = append(all, func() error { return n.Pull(t.Context(), repo, d) })
	}
	atOnce(t, all...)
}

// acceptAll is what an engine sends that takes everything.
var acceptAll = func() []string {
	var pairs []string
	for _, mediaType := range oci.ManifestTypes() {
		pairs = append(pairs, "Accept", mediaType)
	}
	return pairs
}()

// pullImage pulls a tag as an engine does: the manifest, a platform's if it is an index, then all blobs at once.
func pullImage(ctx context.Context, n *testfarm.Node, repo, reference string) error {
	r := n.Ask(ctx, http.MethodGet, repo+"/manifests/"+reference, acceptAll...)
	if r.Err != nil || r.Status != http.StatusOK {
		return fmt.Errorf("manifest %s at %s: status %d, %w: %s", reference, n.ID(), r.Status, r.Err, r.Body)
	}
	m, err := oci.ParseManifest(r.Header.Get("Content-Type"), r.Body)
	if err != nil {
		return err
	}
	if m.Index() {
		return pullImage(ctx, n, repo, m.Manifests[0].Digest.String())
	}
	var group sync.WaitGroup
	errs := make(chan error, len(m.Blobs()))
	for _, b := range m.Blobs() {
		group.Go(func() {
			if err := n.Pull(ctx, repo, b.Digest); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	close(errs)
	return <-errs
}

func TestAFarmFetchesABlobOnce(t *testing.T) {
	t.Parallel()
	const size = 24*mib + 123
	f := testfarm.Start(t, testfarm.Options{Nodes: 5, Hub: hub.Config{}})
	d := put(t, f, 1, size, "library/app")
	pullAt(t, "library/app", d, f.Nodes...)
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes of the blob; want %d", got, size)
	}
}
