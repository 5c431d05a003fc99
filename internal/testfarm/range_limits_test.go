package testfarm_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/transfer"
)

// bulky answers every question with a document of 3 MiB.
type bulky struct{}

func (bulky) Document(context.Context, transfer.Question) (transfer.Answer, error) {
	return transfer.Answer{Body: make([]byte, 3*mib)}, nil
}

func TestDocumentsCountAgainstUpload(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	data, d := ownedBy(t, "owner", "asker", size)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	owner := liveAs(t, "owner", up, func(c *transfer.Config, p *transfer.Parts) {
		c.Upload, p.Documents = 4*mib, bulky{}
	})
	asker := live(t, "asker", up, owner.self)
	conn, err := grpc.NewClient("passthrough:///"+owner.self.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	start := time.Now()
	_, err = transferpb.NewTransferClient(conn).Document(t.Context(), &transferpb.DocumentRequest{Kind: transferpb.DocumentRequest_KIND_MANIFEST})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a document took %v; want it sent at once", took)
	}
	for off := int64(0); off < size; off += transfer.BlockSize {
		if _, err := asker.block(t.Context(), d, size, off); err != nil {
			t.Fatal(err)
		}
	}
	// 7 MiB in all, of which 5 MiB, the largest message, go at once; the others at 4 MiB a second.
	if took := time.Since(start); took < 450*time.Millisecond {
		t.Errorf("a document of 3 MiB and blocks of 4 MiB took %v at 4 MiB/s; want the limit kept for both", took)
	}
}

func TestSmallLayersAreNotStartedAhead(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	i := image(t, f, 1820, "library/smalls", "latest", mib, 4000, 256<<10, mib)
	n := f.Nodes[0]
	manifest(t, n, "library/smalls/manifests/latest")
	if err := n.Pull(t.Context(), "library/smalls", i.Layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	f.Eventually("the other large layer", func() bool { return crossed(f, i.Layers[3].Digest) > 0 })
	quietly(t, f, i, 2)
}

func TestTheLimitOnUpstreamsHoldsForTheWholeNode(t *testing.T) {
	t.Parallel()
	const size, rate = 3 * mib, 4 * mib
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) {
		other := c.Upstreams[oci.DockerHub]
		c.Upstreams["other.test"] = other
		c.Registry.Names.Upstreams = []string{oci.DockerHub, "other.test"}
		c.UpstreamRate = rate
	}})
	n := f.Nodes[0]
	var pulls []func() error
	for i := range uint64(4) {
		repo := fmt.Sprintf("library/limit-%d", i)
		d := put(t, f, 1830+i, size, repo)
		if i%2 == 1 {
			repo = "other.test/" + repo
		}
		pulls = append(pulls, func() error { return n.Pull(t.Context(), repo, d) })
	}
	start := time.Now()
	atOnce(t, pulls...)
	if took := time.Since(start); took < 2500*time.Millisecond {
		t.Errorf("12 MiB of two upstreams took %v at 4 MiB/s; want about 3 s", took)
	}
}

func TestMoreLayersThanAreReadAtOnceAllComeInTheEnd(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { c.Transfer.Budget = 16 * mib }})
	sizes := make([]int64, 24)
	for i := range sizes {
		sizes[i] = mib + int64(i)
	}
	i := image(t, f, 1840, "library/many", "latest", sizes...)
	f.Hub.SetRate(24 * mib)
	n := f.Nodes[0]
	manifest(t, n, "library/many/manifests/latest")
	for _, l := range i.Layers {
		r := n.Ask(t.Context(), http.MethodGet, "library/many/blobs/"+l.Digest.String())
		if r.Status != http.StatusOK || "sha256:"+r.Sum != l.Digest.String() {
			t.Fatalf("GET of a layer = %d, %d bytes, %v", r.Status, r.Size, r.Err)
		}
		if got := crossed(f, l.Digest); got != l.Size {
			t.Errorf("upstream sent %d bytes of a layer of %d", got, l.Size)
		}
	}
}
