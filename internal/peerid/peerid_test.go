package peerid_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
)

type info string

func (info) AuthType() string { return "test" }

func (i info) PeerID() string { return string(i) }

func with(ctx context.Context, auth credentials.AuthInfo) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: auth})
}

func TestANodeCannotSpeakInAnothersName(t *testing.T) {
	ctx := with(t.Context(), info("a"))
	if err := peerid.Check(ctx, "a"); err != nil {
		t.Errorf("Check of itself = %v; want nil", err)
	}
	if err := peerid.Check(ctx, "b"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("Check of another = %v; want PermissionDenied", err)
	}
	if err := peerid.Check(ctx, ""); status.Code(err) != codes.PermissionDenied {
		t.Errorf("Check of nobody = %v; want PermissionDenied", err)
	}
}

func TestWithoutCertificatesEverybodyIsBelieved(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"no call": t.Context(), "no certificate": with(t.Context(), nil), "an empty one": with(t.Context(), info("")),
	} {
		if err := peerid.Check(ctx, "b"); err != nil {
			t.Errorf("Check with %s = %v; want nil", name, err)
		}
	}
}
