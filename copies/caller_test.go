package copies

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// certified is the certificate of who calls.
type certified string

func (certified) AuthType() string { return "tls" }

func (c certified) PeerID() string { return string(c) }

func TestANodeThatSpeaksInAnothersNameIsRefused(t *testing.T) {
	nameless := map[string]bool{"Offer": true, "Store": true, "Note": true, "Compare": false, "Notes": true, "Collect": true}
	for _, m := range copiespb.Copies_ServiceDesc.Methods {
		if _, known := nameless[m.MethodName]; !known {
			t.Errorf("%s: does the call carry its caller's id?", m.MethodName)
		}
	}
	for _, m := range copiespb.Copies_ServiceDesc.Streams {
		if _, known := nameless[m.StreamName]; !known {
			t.Errorf("%s: does the call carry its caller's id?", m.StreamName)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b")
		time.Sleep(2 * time.Second)
		s := &server{k: all["a"].Keeper}
		compare := func(ctx context.Context, node string) error {
			_, err := s.Compare(ctx, &copiespb.CompareRequest{Node: node})
			return err
		}
		mallory := grpcpeer.NewContext(t.Context(), &grpcpeer.Peer{AuthInfo: certified("mallory")})
		for _, claimed := range []string{"a", "b", ""} {
			if err := compare(mallory, claimed); status.Code(err) != codes.PermissionDenied {
				t.Errorf("Compare in the name of %q = %v; want PermissionDenied", claimed, err)
			}
		}
		if err := compare(mallory, "mallory"); err != nil {
			t.Errorf("Compare in its own name = %v", err)
		}
		if err := compare(t.Context(), "b"); err != nil {
			t.Errorf("Compare without certificates = %v; want everybody believed", err)
		}
	})
}
