package testfarm_test

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/transfer"
)

// A signpost is a meeting point that sends everybody to another one.
type signpost struct {
	puppet
	to string
}

func (s *signpost) Register(stream transferpb.Transfer_RegisterServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	s.registered.Add(1)
	return stream.Send(&transferpb.RegisterReply{Redirect: s.to})
}

func TestANodeThatIsSentAroundGoesToTheUpstreamInTheEnd(t *testing.T) {
	t.Parallel()
	data, d := ownedBy(t, "here", "honest", 3*mib)
	here, there := &signpost{puppet{id: "here", digest: d}, "there"}, &signpost{puppet{id: "there", digest: d}, "here"}
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	node := live(t, "honest", up,
		transfer.Node{ID: "here", Boot: "boot", Address: onStage(t, here)}, transfer.Node{ID: "there", Boot: "boot", Address: onStage(t, there)})
	got, err := node.get(t.Context(), d)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("get = %d bytes, %v; want the blob from the upstream", len(got), err)
	}
	if up.sent.Load() != int64(len(data)) || here.registered.Load()+there.registered.Load() == 0 {
		t.Errorf("the upstream sent %d bytes, and %d and %d registrations came; want the blob, and some", up.sent.Load(), here.registered.Load(), there.registered.Load())
	}
}

// onStage opens the peer door of a puppet that has calls of its own, and gives its address.
func onStage(t *testing.T, p transferpb.TransferServer) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	transferpb.RegisterTransferServer(s, p)
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() {
		s.Stop()
		served.Wait()
	})
	return listener.Addr().String()
}

// A turncoat hands out a list and says then that it is false.
type turncoat struct{ puppet }

func (s *turncoat) Register(stream transferpb.Transfer_RegisterServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	s.registered.Add(1)
	if err := stream.Send(&transferpb.RegisterReply{List: s.header()}); err != nil {
		return err
	}
	if err := stream.Send(&transferpb.RegisterReply{MidstatesFrom: 1, Midstates: s.list.Midstates(1)}); err != nil {
		return err
	}
	return stream.Send(&transferpb.RegisterReply{Error: &transferpb.Error{Code: transferpb.Error_CODE_MISMATCH, Text: "false list"}})
}

func TestAListThatItsMeetingPointCallsFalseCostsNoPull(t *testing.T) {
	t.Parallel()
	for name, issuer := range map[string]string{"its own": "owner", "another's": "somebody"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, d := ownedBy(t, "owner", "honest", 4*mib)
			forged := randomBytes(811, len(data))
			owner := &turncoat{puppet{id: "owner", digest: d, list: listOf(d, issuer, forged), data: forged}}
			up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
			node := live(t, "honest", up, transfer.Node{ID: "owner", Boot: "boot", Address: onStage(t, owner)})
			got, err := node.get(t.Context(), d)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("get = %d bytes, %v; want the blob, read by another issuer", len(got), err)
			}
			if n := owner.registered.Load(); n < 1 || n > 3 {
				t.Errorf("the owner was asked %d times; want it passed over in the end", n)
			}
			if s := node.Stats(); s.Condemned != 0 {
				t.Errorf("%d lists were condemned on the word of a node; want none", s.Condemned)
			}
		})
	}
}
