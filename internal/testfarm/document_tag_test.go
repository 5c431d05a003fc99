package testfarm_test

import (
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

func TestTheNewestOfTheLastKnownAnswersIsServed(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 4, Change: ttl(1)})
	repo := oci.Repository{Upstream: oci.DockerHub, Path: "library/newest"}
	owner := f.OwnerOfTag(repo, "latest")
	others := f.Others(owner)
	for k, n := range others { // each knows another digest, the last one the newest
		i := image(t, f, 870+uint64(k), repo.Path, "latest", 3000)
		if k == 0 {
			manifestAt(t, owner, repo.Path, i)
		}
		if r := n.Ask(t.Context(), http.MethodHead, repo.Path+"/manifests/latest", acceptAll...); r.Header.Get("Docker-Content-Digest") != i.Digest.String() {
			t.Fatalf("HEAD of a tag at %s = %d %s; want %s", n.ID(), r.Status, r.Header.Get("Docker-Content-Digest"), i.Digest)
		}
	}
	want := others[len(others)-1].Ask(t.Context(), http.MethodHead, repo.Path+"/manifests/latest", acceptAll...).Header.Get("Docker-Content-Digest")
	f.Hub.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Status, Status: http.StatusTooManyRequests})
	owner.Stop()
	for _, n := range others {
		r := n.Ask(t.Context(), http.MethodHead, repo.Path+"/manifests/latest", acceptAll...)
		if r.Status != http.StatusOK || r.Header.Get("Docker-Content-Digest") != want || r.Header.Get("Warning") == "" {
			t.Errorf("HEAD of a tag at %s without its owner and upstream = %d %s, Warning %q; want %s and a warning", n.ID(), r.Status,
				r.Header.Get("Docker-Content-Digest"), r.Header.Get("Warning"), want)
		}
	}
}

func TestATagThatTheUpstreamHasNotIsNotServedFromWhatOthersKnew(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 4, Change: ttl(1)})
	repo := oci.Repository{Upstream: oci.DockerHub, Path: "library/deleted"}
	image(t, f, 880, repo.Path, "latest", 3000)
	others := f.Others(f.OwnerOfTag(repo, "latest"))
	ask := func(n *testfarm.Node) int {
		return n.Ask(t.Context(), http.MethodGet, repo.Path+"/manifests/latest", acceptAll...).Status
	}
	for _, n := range others[:2] {
		if got := ask(n); got != http.StatusOK {
			t.Fatalf("GET of a tag at %s = %d; want 200", n.ID(), got)
		}
	}
	if err := f.Hub.DeleteTag(repo.Path, "latest"); err != nil {
		t.Fatal(err)
	}
	if got := ask(others[2]); got != http.StatusNotFound {
		t.Errorf("GET of a tag that is gone = %d although others knew it; want 404", got)
	}
	f.Hub.MustFault(hub.Fault{Do: hub.Refuse})
	if got := ask(others[2]); got != http.StatusServiceUnavailable {
		t.Errorf("GET of a tag that was found gone = %d once the upstream is down; want 503 and not what others knew before", got)
	}
}

func TestAListThatAnotherNodeKeepsIsServedWhenTheUpstreamIsDown(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 4, Change: ttl(1)})
	image(t, f, 885, "library/listed", "one", 3000)
	const path = "library/listed/tags/list"
	want := f.Nodes[0].Ask(t.Context(), http.MethodGet, path)
	if want.Status != http.StatusOK {
		t.Fatalf("GET %s = %d %s", path, want.Status, want.Body)
	}
	f.Hub.MustFault(hub.Fault{Do: hub.Refuse})
	f.Add(func(c *node.Config) { ttl(1)(0, c) })
	f.Add(func(c *node.Config) { ttl(1)(0, c) })
	f.Settle()
	for _, n := range f.Nodes {
		if r := n.Ask(t.Context(), http.MethodGet, path); r.Status != http.StatusOK || r.Sum != want.Sum || r.Header.Get("Warning") == "" {
			t.Errorf("GET %s at %s = %d %s, Warning %q; want the last known page and a warning", path, n.ID(), r.Status, r.Body, r.Header.Get("Warning"))
		}
	}
}
