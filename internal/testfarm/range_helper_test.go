package testfarm_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/transfer"
)

// wanted is a blob as a client that reads a range asks for it.
func wanted(d oci.Digest) transfer.Want {
	return transfer.Want{Repository: oci.Repository{Upstream: oci.DockerHub, Path: "library/app"}, Digest: d}
}

// block reads one block of a blob through the engine, once that runs.
func (h *honest) block(ctx context.Context, d oci.Digest, size, off int64) ([]byte, error) {
	<-h.Started()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	data, _, err := h.Block(ctx, wanted(d), size, off)
	return data, err
}

// gone is a member that refuses connections.
func gone(t *testing.T, id string) transfer.Node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return transfer.Node{ID: id, Boot: "boot", Address: l.Addr().String()}
}

// thirdOwned makes data that a ring of three gives to the owner, and without it to the successor.
func thirdOwned(t *testing.T, owner, other, successor string, n int) ([]byte, oci.Digest) {
	t.Helper()
	view := directoryOf(other, transfer.Node{ID: owner}, transfer.Node{ID: successor}).view
	for seed := range uint64(1000) {
		data := randomBytes(1700+seed, n)
		d := oci.FromBytes(oci.SHA256, data)
		if view.Owner(d) == owner && view.OwnerWithout(d, owner) == successor {
			return data, d
		}
	}
	t.Fatalf("%s owns nothing", owner)
	return nil, oci.Digest{}
}

// noUpstream is one that cannot be reached.
type noUpstream struct{}

func (noUpstream) Blob(context.Context, oci.Repository, oci.Digest, int64, int64) (transfer.Body, error) {
	return transfer.Body{}, oci.ErrUnavailable
}

func (noUpstream) StatBlob(context.Context, oci.Repository, oci.Digest) (int64, error) {
	return 0, oci.ErrUnavailable
}

// hanging is an upstream that answers no GET before its context ends.
type hanging struct {
	*shelf
	entered chan struct{}
	reading atomic.Int64
}

func (h *hanging) Blob(ctx context.Context, _ oci.Repository, _ oci.Digest, _, _ int64) (transfer.Body, error) {
	h.reading.Add(1)
	defer h.reading.Add(-1)
	h.entered <- struct{}{}
	<-ctx.Done()
	return transfer.Body{}, oci.ErrUnavailable
}

// A census is a member that has nothing and counts how often it is asked what it has.
type census struct {
	transferpb.UnimplementedTransferServer

	id       string
	holdings atomic.Int64
}

// perform opens the member's peer door.
func (c *census) perform(t *testing.T) transfer.Node {
	t.Helper()
	return transfer.Node{ID: c.id, Boot: "boot", Address: onStage(t, c)}
}

func (c *census) Ping(context.Context, *transferpb.PingRequest) (*transferpb.PingReply, error) {
	return &transferpb.PingReply{Node: c.id}, nil
}

func (c *census) Holdings(context.Context, *transferpb.HoldingsRequest) (*transferpb.HoldingsReply, error) {
	c.holdings.Add(1)
	return &transferpb.HoldingsReply{}, nil
}
