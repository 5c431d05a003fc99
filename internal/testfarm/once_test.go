package testfarm_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

func TestAnUncachedBlobCrossesOnceHoweverItIsAskedFor(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 4})

	t.Run("by many clients of every node", func(t *testing.T) {
		t.Parallel()
		const size = 8*mib + 1
		d := put(t, f, 10, size, "library/clients")
		var clients []*testfarm.Node
		for range 4 {
			clients = append(clients, f.Nodes...)
		}
		pullAt(t, "library/clients", d, clients...)
		if got := crossed(f, d); got != size {
			t.Errorf("upstream sent %d bytes for 16 clients; want %d", got, size)
		}
	})

	t.Run("through many repositories", func(t *testing.T) {
		t.Parallel()
		const size = 8 * mib
		var repos []string
		for i := range 8 {
			repos = append(repos, fmt.Sprintf("library/repo-%d", i))
		}
		d := put(t, f, 11, size, repos...)
		var pulls []func() error
		for i, repo := range repos {
			pulls = append(pulls, func() error { return f.Nodes[i%4].Pull(t.Context(), repo, d) })
		}
		atOnce(t, pulls...)
		if got := crossed(f, d); got != size {
			t.Errorf("upstream sent %d bytes for 8 repositories; want %d", got, size)
		}
		if got := f.Hub.Stats().Blobs[d.String()].Heads; got < 1 || got > 7 {
			t.Errorf("upstream was asked to confirm %d times for 7 other repositories; want one HEAD for each at most", got)
		}
	})

	t.Run("through many tags", func(t *testing.T) {
		t.Parallel()
		i := image(t, f, 12, "library/tags", "tag-0", 4*mib, 4*mib)
		var pulls []func() error
		for k := range 8 {
			tag := fmt.Sprintf("tag-%d", k)
			if _, err := f.Hub.PutManifest("library/tags", tag, i.MediaType, i.Raw); err != nil {
				t.Fatal(err)
			}
			pulls = append(pulls, func() error { return pullImage(t.Context(), f.Nodes[k%4], "library/tags", tag) })
		}
		atOnce(t, pulls...)
		for _, b := range i.Blobs() {
			if got := crossed(f, b.Digest); got != b.Size {
				t.Errorf("upstream sent %d bytes of a blob of %d for 8 tags", got, b.Size)
			}
		}
	})

	t.Run("later through another repository", func(t *testing.T) {
		t.Parallel()
		const size = 4 * mib
		d := put(t, f, 13, size, "library/first", "library/second")
		pullAt(t, "library/first", d, f.Nodes[0])
		pullAt(t, "library/second", d, f.Nodes...)
		stats := f.Hub.Stats().Blobs[d.String()]
		if stats.Bytes != size || stats.Gets != 1 || stats.Heads != 1 {
			t.Errorf("upstream saw %+v; want the blob once and one HEAD for the second repository", stats)
		}
	})
}

func TestACachedBlobIsNotServedThroughARepositoryThatLacksIt(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	for _, size := range []int{2000, 3 * mib} {
		d := put(t, f, uint64(size), size, "library/has")
		pullAt(t, "library/has", d, f.Nodes...)
		for _, n := range f.Nodes {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r := n.Ask(t.Context(), method, "library/lacks/blobs/"+d.String())
				if r.Status != http.StatusNotFound || method == http.MethodGet && !strings.Contains(string(r.Body), "BLOB_UNKNOWN") {
					t.Errorf("%s of a blob of %d bytes through a repository without it = %d %s; want 404 BLOB_UNKNOWN", method, size, r.Status, r.Body)
				}
			}
		}
		if got := crossed(f, d); got != int64(size) {
			t.Errorf("upstream sent %d bytes of a blob of %d", got, size)
		}
	}
}

func TestABlobThatIsBeingFetchedIsNotServedThroughARepositoryThatLacksIt(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 8 * mib
	d := put(t, f, 20, size, "library/has")
	slow(f, d, 4*mib)
	done := make(chan error, 1)
	go func() { done <- f.Nodes[0].Pull(t.Context(), "library/has", d) }()
	f.Eventually("the fetch", func() bool { return crossed(f, d) > 0 })
	for _, n := range f.Nodes {
		if r := n.Ask(t.Context(), http.MethodGet, "library/lacks/blobs/"+d.String()); r.Status != http.StatusNotFound {
			t.Errorf("GET through a repository without the blob at %s = %d, %d bytes; want 404", n.ID(), r.Status, r.Size)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}

func TestOnePlatformOfAnIndexFetchesOnlyThat(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	var platforms []*images.Image
	for seed := range uint64(3) {
		i, err := images.Random(t.TempDir(), 30+seed, 2*mib, mib)
		if err != nil {
			t.Fatal(err)
		}
		platforms = append(platforms, i)
	}
	index, err := images.Index(platforms...)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AddTo(f.Hub, "library/multi", "latest"); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		if err := pullImage(t.Context(), n, "library/multi", "latest"); err != nil {
			t.Fatal(err)
		}
	}
	stats := f.Hub.Stats()
	wanted := platforms[0].UniqueBytes() - platforms[0].Size
	if stats.BlobBytes != wanted {
		t.Errorf("upstream sent %d bytes of blobs; want %d, those of one platform", stats.BlobBytes, wanted)
	}
	if stats.ManifestGets != 2 {
		t.Errorf("upstream answered %d manifest GETs: %v; want the index and one platform", stats.ManifestGets, stats.Manifests)
	}
}

func TestSmallBlobsTravelInsideTheAnswer(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 4})
	for i, size := range []int{0, 1, 2000, 200 << 10, 256 << 10} {
		d := put(t, f, 40+uint64(i), size, "library/small")
		pullAt(t, "library/small", d, f.Nodes...)
		if got := crossed(f, d); got != int64(size) {
			t.Errorf("upstream sent %d bytes of a blob of %d", got, size)
		}
		if r := f.Nodes[1].Ask(t.Context(), http.MethodGet, "library/small/blobs/"+d.String()); r.Header.Get("Docker-Content-Digest") != d.String() {
			t.Errorf("GET of a blob of %d bytes names digest %q", size, r.Header.Get("Docker-Content-Digest"))
		}
	}
	for _, n := range f.Nodes {
		if s := n.MustStatus(); s.Peers.PiecesSent != 0 || s.Peers.PiecesReceived != 0 {
			t.Errorf("%s sent %d pieces and received %d; want small blobs to need none", n.ID(), s.Peers.PiecesSent, s.Peers.PiecesReceived)
		}
	}
}

func TestSHA512BlobsAreServedToo(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 3*mib + 17
	data := randomBytes(50, size)
	path := t.TempDir() + "/blob"
	d := oci.FromBytes(oci.SHA512, data)
	putFile(t, f, "library/long", d, path, data)
	want := strings.TrimPrefix(oci.FromBytes(oci.SHA256, data).String(), "sha256:")
	for _, n := range f.Nodes {
		if r := n.Ask(t.Context(), http.MethodGet, "library/long/blobs/"+d.String()); r.Status != http.StatusOK || r.Sum != want {
			t.Errorf("GET %s at %s = %d, %d bytes, %v; want the blob", d, n.ID(), r.Status, r.Size, r.Err)
		}
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}
