package testfarm_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
)

// started counts the layers whose bytes the upstream has begun to send.
func started(f *testfarm.Farm, i *images.Image) int {
	n := 0
	for _, l := range i.Layers {
		if crossed(f, l.Digest) > 0 {
			n++
		}
	}
	return n
}

func manifest(t *testing.T, n *testfarm.Node, path string) {
	t.Helper()
	if r := n.Ask(t.Context(), http.MethodGet, path, acceptAll...); r.Status != http.StatusOK {
		t.Fatalf("GET %s = %d, %v: %s", path, r.Status, r.Err, r.Body)
	}
}

// quietly makes sure that nothing more than so many layers start in a time in which all would have.
func quietly(t *testing.T, f *testfarm.Farm, i *images.Image, want int) {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got := started(f, i); got > want {
			t.Fatalf("%d layers were started; want %d", got, want)
		}
	}
}

func TestTheFirstLayerStartsAllOthers(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	i := image(t, f, 500, "library/ahead", "latest", mib, mib, mib, mib, mib, mib)
	n := f.Nodes[0]
	manifest(t, n, "library/ahead/manifests/latest")
	quietly(t, f, i, 0)
	if err := n.Pull(t.Context(), "library/ahead", i.Layers[2].Digest); err != nil {
		t.Fatal(err)
	}
	f.Eventually("all layers", func() bool { return started(f, i) == len(i.Layers) })
	for _, l := range i.Layers {
		if err := n.Pull(t.Context(), "library/ahead", l.Digest); err != nil {
			t.Error(err)
		}
		if got := crossed(f, l.Digest); got != l.Size {
			t.Errorf("upstream sent %d bytes of a layer of %d", got, l.Size)
		}
	}
}

func TestRangeReadersStartNothingAhead(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	i := image(t, f, 510, "library/lazy", "latest", mib, mib, mib)
	n := f.Nodes[0]
	manifest(t, n, "library/lazy/manifests/latest")
	r := n.Ask(t.Context(), http.MethodGet, "library/lazy/blobs/"+i.Layers[0].Digest.String(), "Range", "bytes=10-19")
	if r.Status != http.StatusPartialContent || r.Size != 10 {
		t.Fatalf("GET of a range = %d, %d bytes, %v", r.Status, r.Size, r.Err)
	}
	quietly(t, f, i, 1)
}

func TestIndexesAndLayersWithoutAManifestStartNothingAhead(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	i := image(t, f, 520, "library/plain", "latest", mib, mib, mib)
	index, err := images.Index(i)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AddTo(f.Hub, "library/plain", "index"); err != nil {
		t.Fatal(err)
	}
	n := f.Nodes[0]
	manifest(t, n, "library/plain/manifests/index")
	if err := n.Pull(t.Context(), "library/plain", i.Layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	quietly(t, f, i, 1)
}

func TestWhatAnEngineWasGivenBeforeIsNotStartedAhead(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	i := image(t, f, 530, "library/given", "latest", mib, mib, mib)
	n := f.Nodes[0]
	for _, l := range i.Layers[:2] { // no manifest: nothing is armed
		if err := n.Pull(t.Context(), "library/given", l.Digest); err != nil {
			t.Fatal(err)
		}
	}
	before := f.Hub.Stats()
	manifest(t, n, "library/given/manifests/latest")
	if err := n.Pull(t.Context(), "library/given", i.Layers[2].Digest); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // in which the others would have been started
	for _, l := range i.Layers[:2] {
		if got, was := f.Hub.Stats().Blobs[l.Digest.String()], before.Blobs[l.Digest.String()]; got != was {
			t.Errorf("upstream saw %+v for a layer that the engine has; want %+v", got, was)
		}
	}
}
