package testfarm_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
)

// TestHostedContentWithoutAQuorum is of a farm with three voters and a node that is none, of which two voters are lost
// for a while: first with the leader, then all but the leader.
func TestHostedContentWithoutAQuorum(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 4})
	up := image(t, f, 4000, "library/going", "on", 300<<10)
	h := hostedAt(t, f.Nodes[0], "quorum/app")
	m := h.small(4001, "1")
	big := h.pushImage("big", 4002, 2*mib+9)

	gone, blob := h.retag(m, "gone", 1).digest.String(), h.blob(randomBytes(4003, 300<<10)).Digest.String()
	paths := []string{"/manifests/" + gone, "/blobs/" + blob}
	for _, status := range []int{http.StatusOK, http.StatusNotFound} {
		for _, n := range f.Nodes {
			for _, path := range paths {
				h.at(n).want(status, http.MethodGet, path, nil, acceptAll...)
			}
		}
		for _, path := range paths {
			h.do(http.MethodDelete, path, nil)
		}
	}

	f.SettleCatalog(f.Nodes...) // so that every voter can tell of what was pushed
	for _, leaderStays := range []bool{false, true} {
		leader := f.Nodes[0].Leader()
		voters, others := f.Nodes[0].Voters()
		if len(voters) != 3 || len(others) != 1 {
			t.Fatalf("%d voters, %d others; want 3 and 1", len(voters), len(others))
		}
		var stays *testfarm.Node
		for _, v := range voters {
			if (v == leader) == leaderStays {
				stays = v
			}
		}
		var lost []*testfarm.Node
		var stops []func() error
		for _, v := range voters {
			if v != stays {
				lost = append(lost, v)
				stops = append(stops, func() error { v.Stop(); return nil })
			}
		}
		atOnce(t, stops...)
		for _, n := range []*testfarm.Node{stays, others[0]} {
			withoutQuorum(h.at(n), m, big, up)
			for _, path := range paths {
				if r := h.at(n).do(http.MethodGet, path, nil, acceptAll...); r.Status != http.StatusServiceUnavailable && r.Status != http.StatusNotFound {
					t.Errorf("GET %s, which was deleted, at %s without a quorum = %d; want 503 or 404", path, n.ID(), r.Status)
				}
			}
		}
		for _, n := range lost {
			n.Start()
		}
		f.Settle()
		f.SettleCatalog(f.Nodes...)
		for i, n := range f.Nodes {
			if got := h.at(n).resolved("1"); got != m.digest.String() {
				t.Errorf("the tag at %s is %q once the voters are back; want %s", n.ID(), got, m.digest)
			}
			next := h.at(n).retag(m, "after", 10*i)
			if got := h.at(f.Nodes[(i+1)%4]).resolved("after"); got != next.digest.String() {
				t.Errorf("the tag pushed at %s is %q at the next node; want %s", n.ID(), got, next.digest)
			}
		}
	}
}

// withoutQuorum asks one node for what it can still do, and for what it cannot.
func withoutQuorum(h hosted, m document, big, up *images.Image) {
	data := []byte("cannot be kept now")
	for range 2 {
		h.unavailable(http.MethodPost, "/blobs/uploads/", nil)
		h.unavailable(http.MethodPost, "/blobs/uploads/?digest="+sum256(data).String(), bytes.NewReader(data))
		h.unavailable(http.MethodPost, "/blobs/uploads/?mount="+big.Layers[0].Digest.String()+"&from="+h.name, nil)
		h.unavailable(http.MethodPut, "/manifests/2", bytes.NewReader(m.raw), "Content-Type", m.mediaType)
		h.unavailable(http.MethodDelete, "/manifests/1", nil)
		h.unavailable(http.MethodDelete, "/manifests/"+m.digest.String(), nil)
		h.unavailable(http.MethodGet, "/manifests/1", nil, acceptAll...)
		h.unavailable(http.MethodGet, "/tags/list", nil)
		h.unavailable(http.MethodGet, "/referrers/"+m.digest.String(), nil)
		h.unavailable(http.MethodGet, "/v2/_catalog", nil)
		if r := h.do(http.MethodHead, "/manifests/1", nil, acceptAll...); r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			h.t.Errorf("HEAD of a tag at %s = %d; want 503 with Retry-After", h.node.ID(), r.Status)
		}
	}
	for _, d := range []string{m.digest.String(), big.Digest.String()} {
		if err := h.pull(d); err != nil {
			h.t.Errorf("hosted pull by digest without a quorum: %v", err)
		}
	}
	for _, ref := range []string{"on", up.Digest.String()} {
		if err := pullImage(h.t.Context(), h.node, "library/going", ref); err != nil {
			h.t.Errorf("pull from the upstream without a quorum: %v", err)
		}
	}
}
