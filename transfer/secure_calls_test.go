package transfer

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// calls are all calls of peers, each made in a node's name; nil for one that carries no name.
var calls = map[string]func(ctx context.Context, c transferpb.TransferClient, node string) error{
	"Register": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		s, err := c.Register(ctx)
		if err != nil {
			return err
		}
		d := "sha256:" + strings.Repeat("0", 64)
		_ = s.Send(&transferpb.RegisterRequest{Digest: d, Node: &transferpb.Node{Id: node}})
		_, err = s.Recv()
		return err
	},
	"Exchange": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		s, err := c.Exchange(ctx)
		if err != nil {
			return err
		}
		_ = s.Send(&transferpb.Haves{Node: &transferpb.Node{Id: node}})
		_, err = s.Recv()
		return err
	},
	"Piece": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		_, err := c.Piece(ctx, &transferpb.PieceRequest{Node: node})
		return err
	},
	"Push": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		_, err := c.Push(ctx, &transferpb.PushRequest{Node: node})
		return err
	},
	"Announce": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		_, err := c.Announce(ctx, &transferpb.AnnounceRequest{Node: node})
		return err
	},
	"MayDrop": func(ctx context.Context, c transferpb.TransferClient, node string) error {
		_, err := c.MayDrop(ctx, &transferpb.MayDropRequest{Node: node})
		return err
	},
	"Range": nil, "Holdings": nil, "Document": nil, "Ping": nil, "Status": nil,
}

func TestANodeThatSpeaksInAnothersNameIsRefusedInEveryCall(t *testing.T) {
	var names []string
	for _, m := range transferpb.Transfer_ServiceDesc.Methods {
		names = append(names, m.MethodName)
	}
	for _, s := range transferpb.Transfer_ServiceDesc.Streams {
		names = append(names, s.StreamName)
	}
	a, w := authority(t), newTown(t)
	w.parts = func(id string, p *Parts, _ *Config) { p.Secure = memberOf(t, a, id) }
	all := w.houses("alice", "bob", "mallory")
	line, err := all[2].peers.to("alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		call, known := calls[name]
		if !known {
			t.Errorf("%s: does the call carry its caller's id?", name)
		}
		if call == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for _, claimed := range []string{"bob", "alice", "", "mallory "} {
			err := call(ctx, line, claimed)
			if code := status.Code(err); code != codes.PermissionDenied && !(claimed == "" && code == codes.InvalidArgument) {
				t.Errorf("%s in the name of %q = %v; want PermissionDenied", name, claimed, err)
			}
		}
		if err := call(ctx, line, "mallory"); status.Code(err) == codes.PermissionDenied {
			t.Errorf("%s in its own name = %v", name, err)
		}
		cancel()
	}
}
