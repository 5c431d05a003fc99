package testfarm_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
)

// hostedOf is what nodes say of what they keep.
func hostedOf(t *testing.T, n *testfarm.Node) adminapi.HostedPart {
	t.Helper()
	s := n.MustStatus()
	if s.Hosted == nil {
		t.Fatalf("status of %s says nothing of what is hosted", n.ID())
	}
	return *s.Hosted
}

func belowCopies(t *testing.T, nodes []*testfarm.Node) (sum int) {
	t.Helper()
	for _, n := range nodes {
		sum += hostedOf(t, n).BelowCopies
	}
	return sum
}

// TestHostedCopiesWhileNodesAreDown is of a farm that wants four copies and must have three. Of its three voters two
// stay, so that it is for the copies alone what is refused.
func TestHostedCopiesWhileNodesAreDown(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 4, Change: func(_ int, c *node.Config) {
		c.Hosted.Copies, c.Hosted.MinCopies = 4, 3
	}})
	voters, others := f.Nodes[0].Voters()
	up := voters[:2]
	h := hostedAt(t, up[0], "copies/app")
	all := h.pushImage("all", 6000, mib) // 3 blobs
	for _, n := range f.Nodes {
		if got := hostedOf(t, n).Blobs; got != 3 {
			t.Errorf("%s keeps %d blobs of the image; want 3", n.ID(), got)
		}
	}

	others[0].Stop()
	fewer := h.at(up[1]).pushImage("fewer", 6001, mib)
	if err := h.pull("fewer"); err != nil {
		t.Error(err)
	}
	running := f.Others(others[0])
	f.Eventually("a status that counts blobs below their copies", func() bool { return belowCopies(t, running) > 0 })

	voters[2].Stop()
	data := randomBytes(6002, 400<<10)
	h.unavailable(http.MethodPost, "/blobs/uploads/?digest="+sum256(data).String(), bytes.NewReader(data))
	again := manifestAgain(t, fewer.Raw)
	h.unavailable(http.MethodPut, "/manifests/refused", bytes.NewReader(again.raw), "Content-Type", again.mediaType)
	for _, n := range up {
		h.at(n).want(http.StatusNotFound, http.MethodGet, "/blobs/"+sum256(data).String(), nil)
		h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/refused", nil, acceptAll...)
		h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/"+again.digest.String(), nil, acceptAll...)
		for _, tag := range []string{"all", "fewer"} {
			if err := h.at(n).pull(tag); err != nil {
				t.Errorf("pull while nodes are down: %v", err)
			}
		}
	}

	others[0].Start()
	voters[2].Start()
	f.Settle()
	f.SettleCatalog(f.Nodes...)
	f.Eventually("all copies", func() bool {
		for _, n := range f.Nodes {
			if hostedOf(t, n).Blobs < 6 {
				return false
			}
		}
		return belowCopies(t, f.Nodes) == 0
	})
	h.put(again, "refused")
	for _, n := range f.Nodes {
		for _, ref := range []string{"all", fewer.Digest.String(), all.Digest.String(), "refused"} {
			if err := h.at(n).pull(ref); err != nil {
				t.Error(err)
			}
		}
	}
}
