package testfarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

// TestHostedContentIsTheSameOnEveryNode is of a farm with more nodes than voters and more than copies.
func TestHostedContentIsTheSameOnEveryNode(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 6})
	if voters, others := f.Nodes[0].Voters(); len(voters) != 5 || len(others) != 1 {
		t.Fatalf("%d voters and %d other nodes; want 5 and 1", len(voters), len(others))
	}
	// One after the other: nodes of one process share two processors.
	t.Run("pushes are read", func(t *testing.T) { pushesAreReadEverywhere(t, f) })
	t.Run("tags move", func(t *testing.T) { tagsMoveEverywhere(t, f) })
	t.Run("deletes are seen", func(t *testing.T) { deletesAreSeenEverywhere(t, f) })
	t.Run("blobs are private", func(t *testing.T) { blobsArePrivate(t, f) })
	t.Run("lists agree", func(t *testing.T) { listsAgree(t, f) })
}

// pushesAreReadEverywhere pushes on each node in turn and pulls on all others the moment it was answered.
func pushesAreReadEverywhere(t *testing.T, f *testfarm.Farm) {
	for i, n := range f.Nodes {
		h := hostedAt(t, n, fmt.Sprintf("everywhere/app%d", i))
		image := h.pushImage("1", 1000+uint64(i), 2*mib+17, 5000)
		var pulls []func() error
		for j, other := range f.Others(n) {
			ref := "1"
			if j%2 == 1 {
				ref = image.Digest.String()
			}
			pulls = append(pulls, func() error {
				if err := h.at(other).pull(ref); err != nil {
					return fmt.Errorf("pull by %s of what was pushed at %s: %w", ref, n.ID(), err)
				}
				r := other.Ask(t.Context(), http.MethodGet, h.name+"/manifests/1", acceptAll...)
				if !bytes.Equal(r.Body, image.Raw) || r.Header.Get("Content-Type") != image.MediaType {
					t.Errorf("GET of the manifest at %s = %d %s %s; want what was pushed", other.ID(), r.Status, r.Header.Get("Content-Type"), r.Body)
				}
				return nil
			})
		}
		atOnce(t, pulls...)
	}
}

// tagsMoveEverywhere moves a tag at one node after the other; all see each move once it was answered.
func tagsMoveEverywhere(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[0], "moving/app")
	m := h.small(1100, "latest")
	for i := range 18 {
		n := f.Nodes[(i*5+1)%len(f.Nodes)]
		next := h.at(n).retag(m, "latest", i)
		var asks []func() error
		for _, other := range f.Nodes {
			asks = append(asks, func() error {
				if got := h.at(other).resolved("latest"); got != next.digest.String() {
					t.Errorf("move %d at %s: the tag at %s is %q; want %s", i, n.ID(), other.ID(), got, next.digest)
				}
				return nil
			})
		}
		atOnce(t, asks...)
	}
}

// deletesAreSeenEverywhere deletes a tag, a manifest and a blob, each at another node, after all have served them.
func deletesAreSeenEverywhere(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[1], "deleted/app")
	m := h.small(1200, "kept")
	h.put(m, "gone")
	blob := h.blob(randomBytes(1201, 300<<10))
	for _, n := range f.Nodes { // what they know now must not be what they say later
		for _, ref := range []string{"gone", "kept", m.digest.String()} {
			h.at(n).want(http.StatusOK, http.MethodGet, "/manifests/"+ref, nil, acceptAll...)
		}
		if err := n.Pull(t.Context(), h.name, blob.Digest); err != nil {
			t.Fatal(err)
		}
	}
	h.at(f.Nodes[2]).want(http.StatusAccepted, http.MethodDelete, "/manifests/gone", nil)
	for _, n := range f.Nodes {
		h.at(n).refused(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/manifests/gone", nil, acceptAll...)
		h.at(n).want(http.StatusOK, http.MethodGet, "/manifests/kept", nil, acceptAll...)
		h.at(n).want(http.StatusOK, http.MethodGet, "/manifests/"+m.digest.String(), nil, acceptAll...)
	}
	h.at(f.Nodes[3]).want(http.StatusAccepted, http.MethodDelete, "/blobs/"+blob.Digest.String(), nil)
	for _, n := range f.Nodes {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			h.at(n).want(http.StatusNotFound, method, "/blobs/"+blob.Digest.String(), nil)
		}
	}
	h.at(f.Nodes[4]).want(http.StatusAccepted, http.MethodDelete, "/manifests/"+m.digest.String(), nil)
	for _, n := range f.Nodes {
		for _, ref := range []string{"kept", m.digest.String()} {
			h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/"+ref, nil, acceptAll...)
			h.at(n).want(http.StatusNotFound, http.MethodHead, "/manifests/"+ref, nil, acceptAll...)
		}
	}
	h.refused(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodDelete, "/manifests/kept", nil)
	h.refused(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodDelete, "/manifests/"+m.digest.String(), nil)
	h.put(m, "back") // its blobs are still linked
	for _, n := range f.Nodes {
		if err := h.at(n).pull("back"); err != nil {
			t.Errorf("pull of what was pushed again: %v", err)
		}
	}
}

// blobsArePrivate reads a blob through repositories that have it, and through those that have not.
func blobsArePrivate(t *testing.T, f *testfarm.Farm) {
	one, two, three := hostedAt(t, f.Nodes[0], "private/one"), hostedAt(t, f.Nodes[1], "private/two"), hostedAt(t, f.Nodes[2], "private/three")
	data := randomBytes(1300, 400<<10)
	d := one.blob(data).Digest
	path := "/blobs/" + d.String()
	seen := func(h hosted, want bool) {
		t.Helper()
		for _, n := range f.Nodes {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				if got := h.at(n).do(method, path, nil).Status == http.StatusOK; got != want {
					t.Errorf("%s through %s at %s: seen %v; want %v", method, h.name, n.ID(), got, want)
				}
			}
		}
	}
	seen(one, true)
	seen(two, false)
	two.blob([]byte("something else"))
	seen(two, false)
	two.at(f.Nodes[5]).want(http.StatusCreated, http.MethodPost, "/blobs/uploads/?mount="+d.String()+"&from="+one.name, nil)
	seen(two, true)
	seen(three, false)
	one.at(f.Nodes[4]).want(http.StatusAccepted, http.MethodDelete, path, nil)
	seen(one, false)
	seen(two, true)
	for i, n := range f.Nodes { // without from, at every node, be it a holder or not
		h := hostedAt(t, n, fmt.Sprintf("private/mounted%d", i))
		r := h.want(http.StatusCreated, http.MethodPost, "/blobs/uploads/?mount="+d.String(), nil)
		if r.Header.Get("Docker-Content-Digest") != d.String() || r.Header.Get("Location") != "/v2/"+h.name+path {
			t.Errorf("mount at %s: %v; want the digest and the blob's Location", n.ID(), r.Header)
		}
		seen(h, true)
	}
	// From a repository that has it no more, it is to be sent.
	r := three.want(http.StatusAccepted, http.MethodPost, "/blobs/uploads/?mount="+d.String()+"&from="+one.name, nil)
	three.want(http.StatusNoContent, http.MethodDelete, r.Header.Get("Location"), nil)
	seen(three, false)
	// No manifest may list what its repository has not.
	m := manifestOf(t, oci.MediaTypeOCIManifest, map[string]any{
		"config": three.blob([]byte("{}")), "layers": []oci.Descriptor{{MediaType: octets, Digest: d, Size: int64(len(data))}},
	})
	three.refused(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", http.MethodPut, "/manifests/1", bytes.NewReader(m.raw), "Content-Type", m.mediaType)
	for _, n := range f.Nodes {
		three.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/1", nil, acceptAll...)
		three.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/"+m.digest.String(), nil, acceptAll...)
	}
}

// listsAgree asks all nodes for the lists.
func listsAgree(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[3], "lists/app")
	m := h.small(1400, "b")
	for _, tag := range []string{"a", "c"} {
		h.put(m, tag)
	}
	for _, n := range f.Nodes {
		r := h.at(n).want(http.StatusOK, http.MethodGet, "/tags/list", nil)
		if want := `{"name":"farm.internal/lists/app","tags":["a","b","c"]}`; string(r.Body) != want {
			t.Errorf("tags at %s: %s; want %s", n.ID(), r.Body, want)
		}
		r = n.Ask(t.Context(), http.MethodGet, "_catalog?n=1&last=farm.internal/lists/aaa")
		if want := `{"repositories":["farm.internal/lists/app"]}`; string(r.Body) != want {
			t.Errorf("catalog at %s: %d %s; want %s", n.ID(), r.Status, r.Body, want)
		}
	}
}
