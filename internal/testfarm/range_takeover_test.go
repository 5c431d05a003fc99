package testfarm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/transfer"
)

// A survivor was in the swarm of an owner that is gone. It knows all midstates, and comes to have pieces when it is
// told to.
type survivor struct {
	puppet
	gets chan []uint32
}

func (s *survivor) Holdings(context.Context, *transferpb.HoldingsRequest) (*transferpb.HoldingsReply, error) {
	return &transferpb.HoldingsReply{Holdings: map[string]*transferpb.HoldingsReply_Holding{s.digest.String(): {
		List: s.header(), Midstates: s.list.Midstates(1), Have: piece.NewBitmap(s.list.Count()).Bytes(),
	}}}, nil
}

func (s *survivor) Exchange(stream transferpb.Transfer_ExchangeServer) error {
	id := s.list.ID()
	first := &transferpb.Haves{
		Digest: s.digest.String(), List: id[:], Bitmap: piece.NewBitmap(s.list.Count()).Bytes(), Node: s.node(), Header: s.header(),
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	select {
	case pieces := <-s.gets:
		if err := stream.Send(&transferpb.Haves{Pieces: pieces}); err != nil {
			return err
		}
	case <-stream.Context().Done():
	}
	<-stream.Context().Done()
	return nil
}

// perform opens the survivor's peer door.
func (s *survivor) perform(t *testing.T) transfer.Node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := grpc.NewServer()
	transferpb.RegisterTransferServer(server, s)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return transfer.Node{ID: s.id, Boot: "boot", Address: s.address}
}

// gated is an upstream whose answers end after their first piece until they may go on. It notes what it is asked for.
type gated struct {
	*shelf
	open chan struct{}

	mu    sync.Mutex
	asked []int64 // bytes, -1 for all that follow
}

func (g *gated) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (transfer.Body, error) {
	g.mu.Lock()
	g.asked = append(g.asked, n)
	g.mu.Unlock()
	body, err := g.shelf.Blob(ctx, repo, d, off, n)
	if err == nil {
		body.ReadCloser = &gatedBody{body.ReadCloser, g.open, ctx, atomic.Int64{}}
	}
	return body, err
}

func (g *gated) questions() []int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

type gatedBody struct {
	io.ReadCloser
	open chan struct{}
	ctx  context.Context // of the answer, as an HTTP body has it
	read atomic.Int64
}

func (b *gatedBody) Read(p []byte) (int, error) {
	if b.read.Load() >= mib {
		select {
		case <-b.open:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}

func TestWhatASurvivorGivesWhileATakeoverReadsIsNotReadFromTheUpstream(t *testing.T) {
	t.Parallel()
	const size, from = 64 * mib, 40
	data, d := thirdOwned(t, "owner", "survivor", "successor", size)
	s := &survivor{puppet: puppet{id: "survivor", digest: d, list: listOf(d, "owner", data), data: data}, gets: make(chan []uint32)}
	up := &gated{shelf: &shelf{blobs: map[oci.Digest][]byte{d: data}}, open: make(chan struct{})}
	successor := liveAs(t, "successor", up.shelf, func(_ *transfer.Config, p *transfer.Parts) { p.Upstream = up },
		gone(t, "owner"), s.perform(t))
	got := make(chan error, 1)
	go func() {
		all, err := successor.get(t.Context(), d)
		if err == nil && !bytes.Equal(all, data) {
			err = fmt.Errorf("%d wrong bytes", len(all))
		}
		got <- err
	}()
	var pieces []uint32
	for i := uint32(from); i < size/mib; i++ {
		pieces = append(pieces, i)
	}
	s.gets <- pieces
	for s.asked.Load() < int64(len(pieces)) { // the successor takes what the survivor has got by now
		if t.Context().Err() != nil || len(got) > 0 {
			t.Fatalf("the survivor was asked for %d pieces; want %d", s.asked.Load(), len(pieces))
		}
	}
	close(up.open)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if sent := up.sent.Load(); sent != from*mib {
		t.Errorf("upstream was asked for %d bytes; want the %d that no live node had", sent, from*mib)
	}
}

func TestARangeThatIsOnItsWayInOrderIsNotReadTwice(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 40 * mib
	data := randomBytes(1810, size)
	d := put(t, f, 1810, size, "library/inorder") // no manifest: it is asked for as a whole
	slow(f, d, 16*mib)
	owner := f.Owner(d)
	pulled := make(chan error, 1)
	go func() { pulled <- owner.Pull(t.Context(), "library/inorder", d) }()
	f.Eventually("the first bytes", func() bool { return crossed(f, d) > mib })
	var asks []func() error
	for i, n := range f.Nodes {
		off := int64(32+4*i) * mib
		asks = append(asks, func() error {
			r := n.Ask(t.Context(), http.MethodGet, "library/inorder/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", off, off+999))
			if r.Status != http.StatusPartialContent || !bytes.Equal(r.Body, data[off:off+1000]) {
				return fmt.Errorf("GET of a range at %d = %d, %d bytes, %w", off, r.Status, r.Size, r.Err)
			}
			return nil
		})
	}
	atOnce(t, asks...)
	if err := <-pulled; err != nil {
		t.Error(err)
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}

func TestConnectionsAreThoseOfTheBlobsUpstream(t *testing.T) {
	t.Parallel()
	const size = 33 * mib
	data := randomBytes(1811, size)
	d := oci.FromBytes(oci.SHA256, data)
	for connections, first := range map[int]int64{0: -1, 1: -1, 4: 16 * mib} {
		up := &gated{shelf: &shelf{blobs: map[oci.Digest][]byte{d: data}}, open: make(chan struct{})}
		close(up.open)
		alone := liveAs(t, "alone", up.shelf, func(_ *transfer.Config, p *transfer.Parts) {
			p.Upstream, p.Connections = up, func(oci.Repository) int { return connections }
		})
		<-alone.Started()
		want := wanted(d)
		want.Size = size
		h, err := alone.Get(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Done(t.Context()); err != nil {
			t.Error(err)
		}
		_ = h.Close()
		asked := up.questions()
		if asked[0] != first || connections < 2 && len(asked) != 1 {
			t.Errorf("with %d connections the upstream was asked for %v bytes; want %d at first", connections, asked, first)
		}
	}
}
