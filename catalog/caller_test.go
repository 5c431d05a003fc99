package catalog

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// certified is the certificate of who calls, or a stream with one.
type certified struct {
	net.Conn
	id string
}

func (certified) AuthType() string { return "tls" }

func (c certified) PeerID() string { return c.id }

func calledBy(ctx context.Context, id string) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: certified{id: id}})
}

// callsOfNodes are all calls of other nodes, each made in a node's name; nil for one that carries no name of the caller.
var callsOfNodes = map[string]func(ctx context.Context, s *server, node string) error{
	"Hello": func(ctx context.Context, s *server, node string) error {
		_, err := s.Hello(ctx, &catalogpb.HelloRequest{Node: node})
		return err
	},
	"Prepare": func(ctx context.Context, s *server, node string) error {
		_, err := s.Prepare(ctx, &catalogpb.PrepareRequest{Ballot: &catalogpb.Ballot{Round: 1, Node: node}})
		return err
	},
	"Accept": func(ctx context.Context, s *server, node string) error {
		_, err := s.Accept(ctx, &catalogpb.AcceptRequest{Ballot: &catalogpb.Ballot{Round: 1, Node: node}})
		return err
	},
	"Join": func(ctx context.Context, s *server, node string) error {
		_, err := s.Join(ctx, &catalogpb.JoinRequest{Leader: node})
		return err
	},
	"Apply": func(ctx context.Context, s *server, node string) error {
		lease := Command{Do: TakeLease{Digest: oci.FromBytes(oci.SHA256, nil), Node: node, TTL: time.Minute}}
		reply, err := s.Apply(ctx, &catalogpb.ApplyRequest{Catalog: s.catalog.identity().Catalog, Command: lease.marshal()})
		if err != nil || reply.GetDetour() != nil {
			return status.Errorf(codes.Unavailable, "%v %v", err, reply.GetDetour())
		}
		result, err := unmarshalResult(reply.GetResult())
		if err == nil && result.Err != nil && strings.Contains(result.Err.Error(), "speaks in the name") {
			err = status.Error(codes.PermissionDenied, result.Err.Error())
		}
		return err
	},
	"Learn": nil, "Retire": nil, "Confirm": nil, "ReadIndex": nil, "Query": nil, "Backup": nil,
}

func TestANodeThatSpeaksInAnothersNameIsRefusedInEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		defer n.close()
		n.add("a", "").start()
		time.Sleep(30 * time.Second)
		s := &server{catalog: n.nodes["a"].catalog}
		var names []string
		for _, m := range catalogpb.Catalog_ServiceDesc.Methods {
			names = append(names, m.MethodName)
		}
		for _, m := range catalogpb.Catalog_ServiceDesc.Streams {
			names = append(names, m.StreamName)
		}
		for _, name := range names {
			call, known := callsOfNodes[name]
			if !known {
				t.Errorf("%s: does the call carry its caller's id?", name)
			}
			if call == nil {
				continue
			}
			for _, claimed := range []string{"b", "a", ""} {
				if err := call(calledBy(t.Context(), "mallory"), s, claimed); claimed != "" && status.Code(err) != codes.PermissionDenied {
					t.Errorf("%s in the name of %q = %v; want PermissionDenied", name, claimed, err)
				}
			}
			if err := call(calledBy(t.Context(), "mallory"), s, "mallory"); status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unavailable {
				t.Errorf("%s in its own name = %v", name, err)
			}
			if err := call(t.Context(), s, "b"); status.Code(err) == codes.PermissionDenied {
				t.Errorf("%s without certificates = %v; want everybody believed", name, err)
			}
		}
	})
}

func TestAStreamInAnothersNameIsRefused(t *testing.T) {
	for id, refused := range map[string]bool{"a": false, "mallory": true, "": true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLayer("c", "rb", Config{Node: "b"}, Parts{})
			defer l.Close()
			here, there := net.Pipe()
			defer here.Close()
			go func() {
				if c, err := l.Accept(); err == nil {
					_ = c.Close()
				}
			}()
			done := make(chan error, 1)
			go func() {
				done <- receive(t.Context(), certified{there, id}, time.Second, func() *layer { return l })
			}()
			preface := &catalogpb.Preface{Protocol: 1, Catalog: "c", FromNode: "a", FromRaft: "ra", ToNode: "b", ToRaft: "rb"}
			reply := &catalogpb.PrefaceReply{}
			if err := writeFrame(here, preface); err != nil {
				t.Fatal(err)
			}
			if err := readFrame(here, reply); err != nil {
				t.Fatal(err)
			}
			if err := <-done; (err != nil) != refused || (reply.GetRefusal() != "") != refused {
				t.Errorf("the stream of %q in the name of a: %v, refusal %q; want it refused: %t", id, err, reply.GetRefusal(), refused)
			}
		})
	}
}

func TestAStreamToAnotherNodeThanWasMeantIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		dial := func(context.Context, string) (net.Conn, error) { return certified{here, "mallory"}, nil }
		l := newLayer("c", "ra", Config{Node: "a"}, Parts{Dial: dial, Farm: oneMember{}})
		defer l.Close()
		if c, err := l.Dial(place("rb", "b"), time.Second); err == nil {
			_ = c.Close()
			t.Error("Dial = a stream to mallory; want none")
		}
		if _, err := there.Read(make([]byte, 1)); err == nil {
			t.Error("mallory was told something")
		}
	})
}

// oneMember is a farm in which every node is at one address.
type oneMember struct{ Farm }

func (oneMember) Lookup(node string) (Member, bool) { return Member{ID: node, Address: "b"}, true }
