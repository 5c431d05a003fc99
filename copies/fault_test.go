package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// failAt has the node do something bad when the nth message of a stream is to be received.
func (n *rigNode) failAt(nth int, bad func(ctx context.Context) error) {
	n.serve(func(s *grpc.Server) { n.Register(s) }, grpc.StreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(srv, &badStream{ServerStream: ss, left: nth, bad: bad})
		}))
}

type badStream struct {
	grpc.ServerStream
	left int
	bad  func(context.Context) error
}

func (s *badStream) RecvMsg(m any) error {
	if s.left == 0 {
		if err := s.bad(s.Context()); err != nil {
			return err
		}
	}
	s.left--
	return s.ServerStream.RecvMsg(m)
}

func TestATargetThatDiesAtAnyMessageCostsNoPush(t *testing.T) {
	for nth := range 6 { // head, three of bytes, end, and nothing
		for _, what := range []string{"dies", "hangs", "refuses"} {
			t.Run(fmt.Sprint(what, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 4, nil, nil)
					data := blobstoretest.Data(1, 2*mebi+1)
					d := oci.FromBytes(oci.SHA256, data)
					order := r.order(d)
					victim := order[1]
					victim.failAt(nth, func(ctx context.Context) error {
						switch what {
						case "dies":
							go victim.cut()
							fallthrough
						case "hangs":
							<-ctx.Done()
						}
						return errors.New("bad")
					})
					order[0].upload(data, oci.SHA256)
					begin := time.Now()
					if err := order[0].Put(t.Context(), d, []byte("note")); err != nil {
						t.Fatalf("Put = %v; want nil", err)
					}
					want := sortedIDs([]*rigNode{order[0], order[2], order[3]})
					got := r.holders(d)
					if nth == 5 && victim.has(d) { // it had all that there is, and may have said so in time
						got, want = sortedIDs(order[:3]), sortedIDs(order[:3])
					}
					if !slices.Equal(got, want) {
						t.Errorf("on %v; want %v", got, want)
					}
					if took := time.Since(begin); took > 3*r.nodes[0].cfg.Stall {
						t.Errorf("took %v; want no more than what a stall costs", took)
					}
					if nth < 5 && victim.store.Usage().Blobs != 0 {
						t.Error("half a copy can be seen")
					}
					victim.clean()
				})
			})
		}
	}
}

// A liar answers as it is told, whatever it is sent.
type liar struct {
	copiespb.UnimplementedCopiesServer
	offer func(*copiespb.OfferRequest) *copiespb.OfferReply
	reply copiespb.StoreReply_Status
	early bool // it does not wait for the bytes
	asked atomic.Int64
}

func (l *liar) Offer(_ context.Context, q *copiespb.OfferRequest) (*copiespb.OfferReply, error) {
	if l.offer == nil || len(q.GetDigests()) == 0 {
		return &copiespb.OfferReply{}, nil
	}
	return l.offer(q), nil
}

func (l *liar) Store(s grpc.ClientStreamingServer[copiespb.StoreRequest, copiespb.StoreReply]) error {
	l.asked.Add(1)
	for !l.early {
		if _, err := s.Recv(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	return s.SendAndClose(&copiespb.StoreReply{Status: l.reply, Text: "so it is"})
}

func TestATargetThatRefusesIsReplaced(t *testing.T) {
	for name, l := range map[string]*liar{
		"full":               {reply: copiespb.StoreReply_STATUS_NO_SPACE},
		"full, at once":      {reply: copiespb.StoreReply_STATUS_NO_SPACE, early: true},
		"mismatch":           {reply: copiespb.StoreReply_STATUS_MISMATCH},
		"failed":             {reply: copiespb.StoreReply_STATUS_FAILED, early: true},
		"says nothing":       {},
		"unknown status":     {reply: 77},
		"has another blob":   {reply: copiespb.StoreReply_STATUS_FAILED, offer: otherBlob},
		"has too many":       {reply: copiespb.StoreReply_STATUS_FAILED, offer: manyBlobs},
		"had, takes nowhere": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 4, nil, nil)
				data := blobstoretest.Data(1, 40*mebi/8)
				d := oci.FromBytes(oci.SHA256, data)
				order := r.order(d)
				if l != nil {
					order[1].serve(func(s *grpc.Server) { copiespb.RegisterCopiesServer(s, l) })
				} else {
					order[1].serve(func(*grpc.Server) {}) // a node that knows nothing of copies
				}
				order[0].upload(data, oci.SHA256)
				if err := order[0].Put(t.Context(), d, nil); err != nil {
					t.Fatalf("Put = %v; want nil", err)
				}
				if got, want := r.holders(d), sortedIDs([]*rigNode{order[0], order[2], order[3]}); !slices.Equal(got, want) {
					t.Errorf("on %v; want %v", got, want)
				}
			})
		})
	}
}

func otherBlob(*copiespb.OfferRequest) *copiespb.OfferReply {
	return &copiespb.OfferReply{Have: []string{oci.FromBytes(oci.SHA256, nil).String()}}
}

func manyBlobs(q *copiespb.OfferRequest) *copiespb.OfferReply {
	return &copiespb.OfferReply{Have: append(q.GetDigests(), otherBlob(q).GetHave()...)}
}

// story sends messages to a node as a peer of any kind may, and returns what it says.
func (n *rigNode) story(t *testing.T, messages ...any) (*copiespb.StoreReply, error) {
	t.Helper()
	other := n.rig.nodes[0]
	client, err := other.client(Node{ID: n.id, Address: n.id})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Store(t.Context())
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if wait, ok := m.(time.Duration); ok {
			time.Sleep(wait)
			continue
		}
		if err := stream.SendMsg(m); err != nil {
			break // it has answered already
		}
	}
	reply := &copiespb.StoreReply{}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return reply, stream.RecvMsg(reply)
}

func head(h *copiespb.StoreRequest_Head) any { return &copiespb.StoreRequest{Head: h} }

func bytesOf(data []byte) any {
	return &bulk.Message{Head: &copiespb.StoreRequest{}, Data: mem.BufferSlice{mem.SliceBuffer(data)}}
}

func end(d oci.Digest, size int) any {
	return &copiespb.StoreRequest{End: &copiespb.StoreRequest_End{Digest: d.String(), Size: int64(size)}}
}

func TestAReceiverBelievesNothing(t *testing.T) {
	data := blobstoretest.Data(1, mebi)
	d := oci.FromBytes(oci.SHA256, data)
	other := oci.FromBytes(oci.SHA256, data[1:])
	size := int64(mebi)
	const mismatch, stored = copiespb.StoreReply_STATUS_MISMATCH, copiespb.StoreReply_STATUS_STORED
	for name, c := range map[string]struct {
		messages []any
		status   copiespb.StoreReply_Status
		fails    bool
	}{
		"right":         {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), bytesOf(data), end(d, mebi)}, stored, false},
		"size unknown":  {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: -1}), bytesOf(data), end(d, mebi)}, stored, false},
		"sent along":    {[]any{head(&copiespb.StoreRequest_Head{Size: -1, Algorithm: "sha256"}), bytesOf(data), end(d, mebi)}, stored, false},
		"hashed twice":  {[]any{head(&copiespb.StoreRequest_Head{Size: -1, Algorithm: "sha512"}), bytesOf(data), end(d, mebi)}, stored, false},
		"slow":          {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), 9 * time.Second, bytesOf(data[:9]), 9 * time.Second, bytesOf(data[9:]), 9 * time.Second, end(d, mebi)}, stored, false},
		"plain message": {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), &copiespb.StoreRequest{Data: data}, end(d, mebi)}, stored, false},
		"wrong bytes":   {[]any{head(&copiespb.StoreRequest_Head{Digest: other.String(), Size: size}), bytesOf(data), end(other, mebi)}, mismatch, false},
		"wrong end":     {[]any{head(&copiespb.StoreRequest_Head{Digest: other.String(), Size: size}), bytesOf(data), end(d, mebi)}, mismatch, false},
		"wrong size":    {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), bytesOf(data), end(d, mebi-1)}, mismatch, false},
		"too much":      {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size - 1}), bytesOf(data), end(d, mebi)}, mismatch, false},
		"too little":    {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), bytesOf(data[1:]), end(d, mebi)}, mismatch, false},
		"no digest":     {[]any{head(&copiespb.StoreRequest_Head{Size: -1, Algorithm: "sha256"}), bytesOf(data), &copiespb.StoreRequest{End: &copiespb.StoreRequest_End{}}}, copiespb.StoreReply_STATUS_FAILED, false},
		"no end":        {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), bytesOf(data)}, 0, true},
		"no head":       {[]any{bytesOf(data), end(d, mebi)}, 0, true},
		"nothing":       {nil, 0, true},
		"stall":         {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size}), bytesOf(data), 11 * time.Second, end(d, mebi)}, 0, true},
		"silence":       {[]any{11 * time.Second}, 0, true},
		"md5":           {[]any{head(&copiespb.StoreRequest_Head{Size: -1, Algorithm: "md5"}), bytesOf(data), end(d, mebi)}, 0, true},
		"bad digest":    {[]any{head(&copiespb.StoreRequest_Head{Digest: "sha256:../../x", Size: size}), bytesOf(data), end(d, mebi)}, 0, true},
		"negative":      {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: -2}), bytesOf(data), end(d, mebi)}, 0, true},
		"huge message":  {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: 2 * size}), bytesOf(make([]byte, 2*mebi))}, 0, true},
		"huge note":     {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: size, Note: make([]byte, 2*mebi)}), bytesOf(data), end(d, mebi)}, 0, true},
		"huge size":     {[]any{head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: 1 << 60}), bytesOf(data), end(d, mebi)}, mismatch, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2, nil, nil)
				n := r.nodes[1]
				reply, err := n.story(t, c.messages...)
				if (err != nil) != c.fails || err == nil && reply.GetStatus() != c.status {
					t.Errorf("reply = %v, %v; want %v, an error: %v", reply, err, c.status, c.fails)
				}
				if is := n.has(d); is != (c.status == stored) || n.store.Usage().Blobs > 1 {
					t.Errorf("blob there: %v; want %v", is, c.status == stored)
				}
				n.clean()
				if _, err := n.store.Stat(other); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("Stat of the other digest = %v; want ErrNotFound", err)
				}
				if c.status == stored && len(n.stored) != 1 {
					t.Errorf("Stored called %d times; want once", len(n.stored))
				}
			})
		})
	}
}

func TestNoMoreBlobsComeInThanMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, func(c *Config) { c.Incoming = 4 }, nil)
		n := r.nodes[1]
		data := blobstoretest.Data(1, mebi)
		d := oci.FromBytes(oci.SHA256, data)
		along := head(&copiespb.StoreRequest_Head{Size: -1, Algorithm: "sha256"})
		results := make(chan copiespb.StoreReply_Status, 5)
		for range 2 {
			go func() {
				reply, _ := n.story(t, along, 5*time.Second, bytesOf(data), end(d, mebi))
				results <- reply.GetStatus()
			}()
		}
		synctest.Wait()
		if reply, err := n.story(t, along); err != nil || reply.GetStatus() != copiespb.StoreReply_STATUS_BUSY {
			t.Errorf("a third slow one: %v, %v; want busy", reply, err)
		}
		if reply, err := n.story(t, head(&copiespb.StoreRequest_Head{Digest: d.String(), Size: mebi}), bytesOf(data), end(d, mebi)); err != nil || reply.GetStatus() != copiespb.StoreReply_STATUS_STORED {
			t.Errorf("a whole one: %v, %v; want stored", reply, err)
		}
		for range 2 {
			if st := <-results; st != copiespb.StoreReply_STATUS_STORED {
				t.Errorf("one sent along: %v; want stored", st)
			}
		}
		n.clean()
	})
}
