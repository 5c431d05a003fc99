package testfarm_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/testfarm"
)

func TestARangeCountsAsOneAnswerFromWhereItsBytesCame(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 20 * mib
	d := put(t, f, 830, size, "library/served")
	owner := f.Owner(d)
	other := f.Others(owner)[0]
	const path, from, to = "library/served/blobs/", "bytes=8388608-", "12582911" // 4 MiB
	for _, n := range []*testfarm.Node{owner, other} {
		if r := n.Ask(t.Context(), http.MethodGet, path+d.String(), "Range", from+to); r.Status != http.StatusPartialContent || r.Size != 4*mib {
			t.Fatalf("GET of a range at %s = %d, %d bytes, %v", n.ID(), r.Status, r.Size, r.Err)
		}
	}
	served := func(n *testfarm.Node) [3]adminapi.Source {
		s := n.MustStatus().Served
		return [3]adminapi.Source{s.Disk, s.Peer, s.Upstream}
	}
	once := adminapi.Source{Bytes: 4 * mib, Requests: 1}
	f.Eventually("the owner's count of an answer from the upstream", func() bool { return served(owner) == [3]adminapi.Source{{}, {}, once} })
	f.Eventually("the other node's count of an answer from a peer", func() bool { return served(other) == [3]adminapi.Source{{}, once, {}} })
}

func TestAHealedAnswerIsCountedWithWhatCameFromDisk(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1})
	const size = 6 * mib
	d := put(t, f, 831, size, "library/healed")
	n := f.Nodes[0]
	pullAt(t, "library/healed", d, n)
	f.Eventually("the blob on disk", func() bool { _, err := os.Stat(blobFile(n, d)); return err == nil })
	n.Stop()
	rot(t, blobFile(n, d), 4*mib+1)
	n.Start()
	if err := n.Pull(t.Context(), "library/healed", d); err != nil {
		t.Fatal(err)
	}
	var s adminapi.Served
	f.Eventually("the count of the answer", func() bool {
		s = n.MustStatus().Served
		return s.Disk.Requests+s.Peer.Requests+s.Upstream.Requests > 0
	})
	if all := s.Disk.Bytes + s.Peer.Bytes + s.Upstream.Bytes; all != size || s.Disk.Requests+s.Peer.Requests+s.Upstream.Requests != 1 {
		t.Errorf("served %+v; want %d bytes in one answer", s, size)
	}
	if s.Disk.Bytes < 2*mib {
		t.Errorf("served %d bytes from disk; want what stood before the wrong piece", s.Disk.Bytes)
	}
	if got := n.Metric("p2pd_node_healed_answers_total"); got != 1 {
		t.Errorf("%v answers were counted as healed; want 1", got)
	}
}
