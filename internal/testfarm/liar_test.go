package testfarm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/ring"
	"github.com/pullonce/pullonce/transfer"
)

// A puppet speaks the protocol of nodes and says what it is told to.
type puppet struct {
	transferpb.UnimplementedTransferServer

	id, address string
	digest      oci.Digest
	list        *piece.List
	data        []byte        // what it gives as pieces
	delay       time.Duration // before each piece
	neighbours  []*puppet     // that it introduces, itself not among them
	push        []byte        // what it pushes as piece 0 to who registers
	pushed      chan *transferpb.PushReply
	asked       atomic.Int64 // for pieces
	registered  atomic.Int64
}

// perform opens the puppet's peer door.
func (p *puppet) perform(t *testing.T) *puppet {
	t.Helper()
	p.address = onStage(t, p)
	return p
}

func (p *puppet) node() *transferpb.Node { return &transferpb.Node{Id: p.id, Address: p.address} }

func (p *puppet) header() *transferpb.ListHeader {
	h := p.list.Header()
	return &transferpb.ListHeader{
		Digest: h.Digest.String(), Size: h.Size, PieceSize: h.PieceSize, Issuer: h.Issuer, Nonce: h.Nonce[:],
	}
}

func (p *puppet) Ping(context.Context, *transferpb.PingRequest) (*transferpb.PingReply, error) {
	return &transferpb.PingReply{Node: p.id}, nil
}

func (p *puppet) Register(stream transferpb.Transfer_RegisterServer) error {
	q, err := stream.Recv()
	if err != nil {
		return err
	}
	p.registered.Add(1)
	nodes := []*transferpb.Node{p.node()}
	for _, n := range p.neighbours {
		nodes = append(nodes, n.node())
	}
	for _, r := range []*transferpb.RegisterReply{
		{}, {List: p.header()}, {MidstatesFrom: 1, Midstates: p.list.Midstates(1)}, {Neighbours: nodes},
	} {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	if p.push != nil {
		p.pushTo(stream.Context(), q.GetNode().GetAddress())
	}
	for beat := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-stream.Context().Done():
			beat.Stop()
			return nil
		case <-beat.C:
			if err := stream.Send(&transferpb.RegisterReply{}); err != nil {
				return err
			}
		}
	}
}

func (p *puppet) pushTo(ctx context.Context, address string) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	id := p.list.ID()
	r, err := transferpb.NewTransferClient(conn).Push(ctx, &transferpb.PushRequest{
		Digest: p.digest.String(), List: id[:], Piece: 0, Node: p.id, Data: p.push,
	})
	if err == nil {
		p.pushed <- r
	}
	close(p.pushed)
}

func (p *puppet) Exchange(stream transferpb.Transfer_ExchangeServer) error {
	id := p.list.ID()
	err := stream.Send(&transferpb.Haves{
		Digest: p.digest.String(), List: id[:], Bitmap: piece.FullBitmap(p.list.Count()).Bytes(), Node: p.node(), Header: p.header(),
	})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *puppet) Piece(_ context.Context, q *transferpb.PieceRequest) (*transferpb.PieceReply, error) {
	p.asked.Add(1)
	time.Sleep(p.delay)
	off, n := p.list.Bounds(int(q.GetPiece()))
	return &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_OK, Data: p.data[off : off+n]}, nil
}

// listOf issues a list whose midstates are those of data, be data what the digest names or not.
func listOf(d oci.Digest, issuer string, data []byte) *piece.List {
	l := piece.Issue(d, int64(len(data)), piece.SizeFor(int64(len(data))), issuer)
	h := piece.NewHasher(l)
	for i := range l.Count() {
		off, n := l.Bounds(i)
		_ = h.Piece(data[off : off+n]) // the last one fails when the list is forged
	}
	return l
}

// A fixed directory has the members that it was given.
type fixed struct {
	view  *ring.View
	nodes map[string]transfer.Node
	self  string
}

func directoryOf(self string, nodes ...transfer.Node) *fixed {
	f := &fixed{nodes: make(map[string]transfer.Node), self: self}
	members := []ring.Member{{ID: self, Egress: true}}
	for _, n := range nodes {
		f.nodes[n.ID] = n
		members = append(members, ring.Member{ID: n.ID, Egress: true})
	}
	f.view = ring.NewBuilder(64).Update(members)
	return f
}

func (f *fixed) Observe(string, uint64) {}

func (f *fixed) View() *ring.View { return f.view }

func (f *fixed) Lookup(id string) (transfer.Node, bool) {
	n, ok := f.nodes[id]
	return n, ok
}

func (f *fixed) Others() []transfer.Node {
	var out []transfer.Node
	for _, n := range f.nodes {
		out = append(out, n)
	}
	return out
}

func (f *fixed) Snapshot() []byte { return nil }
func (f *fixed) Merge([]byte)     {}

// A shelf is an upstream of blobs in memory.
type shelf struct {
	blobs map[oci.Digest][]byte
	sent  atomic.Int64
}

func (s *shelf) Blob(_ context.Context, _ oci.Repository, d oci.Digest, off, n int64) (transfer.Body, error) {
	data, ok := s.blobs[d]
	if !ok {
		return transfer.Body{}, oci.ErrNotFound
	}
	rest := data[off:]
	if n >= 0 {
		rest = rest[:n]
	}
	s.sent.Add(int64(len(rest)))
	return transfer.Body{ReadCloser: io.NopCloser(bytes.NewReader(rest)), End: off + int64(len(rest)), Size: int64(len(data))}, nil
}

func (s *shelf) StatBlob(_ context.Context, _ oci.Repository, d oci.Digest) (int64, error) {
	data, ok := s.blobs[d]
	if !ok {
		return 0, oci.ErrNotFound
	}
	return int64(len(data)), nil
}

// Document answers peers that ask whether a repository has a blob.
func (s *shelf) Document(_ context.Context, q transfer.Question) (transfer.Answer, error) {
	d, err := oci.ParseDigest(q.Reference)
	if err != nil {
		return transfer.Answer{}, err
	}
	return transfer.Answer{Digest: d, Size: int64(len(s.blobs[d]))}, nil
}

// An honest node is an engine with a store and a peer door of its own.
type honest struct {
	*transfer.Engine
	store *blobstore.Store
	self  transfer.Node
}

// live runs an engine whose farm is the directory that make gives.
func live(t *testing.T, id string, up *shelf, members ...transfer.Node) *honest {
	t.Helper()
	return liveAs(t, id, up, func(*transfer.Config, *transfer.Parts) {}, members...)
}

// liveAs is live with another configuration or other parts.
func liveAs(t *testing.T, id string, up *shelf, change func(*transfer.Config, *transfer.Parts), members ...transfer.Node) *honest {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.Open(blobstore.Default(t.TempDir()), log)
	if err != nil {
		t.Fatal(err)
	}
	cfg := transfer.Default()
	cfg.Self = transfer.Node{ID: id, Boot: "boot", Address: listener.Addr().String()}
	parts := transfer.Parts{
		Store: store, Directory: directoryOf(id, members...), Upstream: up, Documents: up,
		Status: func(context.Context) ([]byte, error) { return []byte("{}"), nil },
	}
	change(&cfg, &parts)
	e, err := transfer.New(cfg, parts, log)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(e.ServerOptions()...)
	e.Attach(s)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	group.Go(func() { _ = s.Serve(listener) })
	group.Go(func() { _ = e.Run(ctx) })
	group.Go(func() { _ = store.Run(ctx) })
	t.Cleanup(func() {
		s.Stop()
		cancel()
		group.Wait()
		_ = store.Close()
	})
	return &honest{e, store, cfg.Self}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

// get reads a blob through the engine as a client does.
func (h *honest) get(ctx context.Context, d oci.Digest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for { // the engine takes no one before it runs
		handle, err := h.Get(transfer.Want{Repository: oci.Repository{Upstream: oci.DockerHub, Path: "library/app"}, Digest: d})
		if errors.Is(err, transfer.ErrStopped) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = handle.Close() }()
		size, err := handle.Size(ctx)
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		err = handle.WriteRange(ctx, &out, 0, size)
		return out.Bytes(), err
	}
}

// ownedBy makes data that the ring of those two members gives to the owner.
func ownedBy(t *testing.T, owner, other string, n int) ([]byte, oci.Digest) {
	t.Helper()
	view := directoryOf(other, transfer.Node{ID: owner}).view
	for seed := range uint64(1000) {
		data := randomBytes(700+seed, n)
		if d := oci.FromBytes(oci.SHA256, data); view.Owner(d) == owner {
			return data, d
		}
	}
	t.Fatalf("%s owns nothing", owner)
	return nil, oci.Digest{}
}

func TestAnOwnersForgedListIsCondemnedAndTheBlobFetchedAnew(t *testing.T) {
	t.Parallel()
	const size = 5*mib + 99
	data, d := ownedBy(t, "liar", "honest", size)
	forged := randomBytes(701, size)
	liar := (&puppet{id: "liar", digest: d, list: listOf(d, "liar", forged), data: forged}).perform(t)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	node := live(t, "honest", up, transfer.Node{ID: "liar", Boot: "boot", Address: liar.address})
	got, err := node.get(t.Context(), d)
	if err != nil && len(got) == size {
		t.Errorf("a client got %d bytes, all that the blob has, and then %v", len(got), err)
	}
	if err != nil || !bytes.Equal(got, data) {
		// The pieces that the client was given before the chain broke cannot be taken back: it is cut off, and the next
		// one gets the blob.
		if bytes.Equal(got, forged) {
			t.Fatal("a client got the whole forged blob")
		}
		if got, err = node.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("after a forged list: %d bytes, %v; want the blob from another issuer", len(got), err)
		}
	}
	s := node.Stats()
	if liar.asked.Load() == 0 || s.Condemned != 1 {
		t.Errorf("the liar was asked for %d pieces and %d lists were condemned; want some and 1", liar.asked.Load(), s.Condemned)
	}
	if up.sent.Load() != size {
		t.Errorf("the upstream sent %d bytes; want the blob once", up.sent.Load())
	}
	registered := liar.registered.Load()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := node.store.Stat(d); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the blob is not in the store: %v", err)
		}
	}
	if _, err := node.get(t.Context(), d); err != nil {
		t.Error(err)
	}
	if liar.registered.Load() != registered {
		t.Error("the liar was asked again for the blob that it lied about")
	}
}

func TestALyingPeersPiecesAreTakenFromOthers(t *testing.T) {
	t.Parallel()
	const size = 12 * mib
	data, d := ownedBy(t, "owner", "honest", size)
	wrong := bytes.Clone(data)
	for i := 7; i < size; i += mib {
		wrong[i] ^= 0xff
	}
	list := listOf(d, "owner", data)
	liar := (&puppet{id: "liar", digest: d, list: list, data: wrong}).perform(t)
	owner := (&puppet{id: "owner", digest: d, list: list, data: data, delay: 20 * time.Millisecond, neighbours: []*puppet{liar}}).perform(t)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	node := live(t, "honest", up, transfer.Node{ID: "owner", Boot: "boot", Address: owner.address})
	got, err := node.get(t.Context(), d)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("get with a lying peer = %d bytes, %v; want the blob", len(got), err)
	}
	s := node.Stats()
	if liar.asked.Load() == 0 || s.Mismatches == 0 || s.Mismatches > liar.asked.Load() {
		t.Errorf("the liar was asked for %d pieces and %d did not match; want some, and no more than it gave", liar.asked.Load(), s.Mismatches)
	}
	if most := int64(transfer.Default().Outstanding); liar.asked.Load() > most {
		t.Errorf("the liar was asked for %d pieces; want it avoided after the first, when %d were on their way", liar.asked.Load(), most)
	}
	if s.Condemned != 0 || up.sent.Load() != 0 {
		t.Errorf("%d lists were condemned and the upstream sent %d bytes; want the owner trusted", s.Condemned, up.sent.Load())
	}
}

func TestAWrongPieceThatIsPushedIsRefused(t *testing.T) {
	t.Parallel()
	const size = 6 * mib
	data, d := ownedBy(t, "owner", "honest", size)
	wrong := bytes.Clone(data[:mib])
	wrong[3] ^= 1
	owner := (&puppet{
		id: "owner", digest: d, list: listOf(d, "owner", data), data: data, delay: 300 * time.Millisecond,
		push: wrong, pushed: make(chan *transferpb.PushReply, 1),
	}).perform(t)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	node := live(t, "honest", up, transfer.Node{ID: "owner", Boot: "boot", Address: owner.address})
	got, err := node.get(t.Context(), d)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
	}
	// The node leaves an owner that lies, which may end the push before it is answered.
	if r := <-owner.pushed; r.GetAccepted() {
		t.Errorf("Push of a wrong piece = %v; want it refused", r)
	}
	if s := node.Stats(); s.Mismatches > 1 { // none, if the piece was on its way already
		t.Errorf("%d pieces did not match; want no more than the one that was pushed", s.Mismatches)
	}
}

func TestAListOfAnotherBlobOrOfNoSenseIsNoReasonToFail(t *testing.T) {
	t.Parallel()
	const size = 3 * mib
	for name, bend := range map[string]func(*puppet, []byte){
		"of another blob": func(p *puppet, data []byte) {
			other := randomBytes(702, len(data))
			p.list = listOf(oci.FromBytes(oci.SHA256, other), "liar", other)
		},
		"of another size": func(p *puppet, data []byte) {
			p.list = listOf(p.digest, "liar", append(bytes.Clone(data), make([]byte, mib)...))
			p.data = append(bytes.Clone(data), make([]byte, mib)...)
		},
		"of fewer pieces": func(p *puppet, data []byte) {
			p.list, p.data = listOf(p.digest, "liar", data[:2*mib]), data[:2*mib]
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, d := ownedBy(t, "liar", "honest", size)
			liar := &puppet{id: "liar", digest: d, data: data}
			bend(liar, data)
			liar.perform(t)
			up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
			node := live(t, "honest", up, transfer.Node{ID: "liar", Boot: "boot", Address: liar.address})
			got, err := node.get(t.Context(), d)
			if err == nil && !bytes.Equal(got, data) {
				t.Fatalf("get = a complete answer of %d wrong bytes", len(got))
			}
			if err != nil {
				if got, err = node.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
					t.Errorf("get after a list %s = %d bytes, %v; want the blob from the upstream", name, len(got), err)
				}
			}
		})
	}
}

func TestGarbageOnThePeerPortEndsTheConnectionAndNothingElse(t *testing.T) {
	t.Parallel()
	up := &shelf{blobs: map[oci.Digest][]byte{}}
	node := live(t, "honest", up)
	for name, text := range map[string][]byte{
		"noise":         randomBytes(703, 64<<10),
		"HTTP/1.1":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeros":         make([]byte, 100<<10),
		"preface, junk": append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), randomBytes(704, 64<<10)...),
		"huge frame":    append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1),
	} {
		conn, err := net.Dial("tcp", node.self.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(text) // may be refused half-way
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection is still open after 10 s", name)
		}
		_ = conn.Close()
	}
	conn, err := grpc.NewClient("passthrough:///"+node.self.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := transferpb.NewTransferClient(conn)
	if r, err := client.Ping(t.Context(), &transferpb.PingRequest{}); err != nil || r.GetNode() != "honest" {
		t.Errorf("Ping after garbage = %v, %v; want the node to go on", r, err)
	}
	if err := conn.Invoke(t.Context(), "/pullonce.transfer.Transfer/FromTheFuture", &transferpb.PingRequest{}, &transferpb.PingReply{}); err == nil {
		t.Error("a call that this version does not know succeeded")
	}
	badCalls(t, client)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// badCalls makes calls whose fields hold no sense; none may end the node or be answered with bytes.
func badCalls(t *testing.T, client transferpb.TransferClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, text := range []string{"", "sha256:12", "../../etc/passwd", "sha256:" + fmt.Sprintf("%064d", 0)} {
		if r, err := client.Piece(ctx, &transferpb.PieceRequest{Digest: text, Piece: -1, List: []byte("x")}); err == nil && len(r.GetData()) > 0 {
			t.Errorf("Piece of %q gave %d bytes", text, len(r.GetData()))
		}
		if r, err := client.Push(ctx, &transferpb.PushRequest{Digest: text, Piece: 1 << 30, Data: []byte("x")}); err == nil && r.GetAccepted() {
			t.Errorf("Push of %q was accepted", text)
		}
		if _, err := client.Holdings(ctx, &transferpb.HoldingsRequest{Digests: []string{text}}); err != nil {
			t.Errorf("Holdings of %q: %v", text, err)
		}
		_, _ = client.Document(ctx, &transferpb.DocumentRequest{Kind: 99, Reference: text})
		_, _ = client.Announce(ctx, &transferpb.AnnounceRequest{Node: text, Digests: []string{text}})
		stream, err := client.Register(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&transferpb.RegisterRequest{Digest: text, Have: []byte("x"), Size: -1})
		_ = stream.CloseSend()
		for err == nil {
			_, err = stream.Recv()
		}
	}
	if _, err := client.Ping(ctx, &transferpb.PingRequest{}); err != nil {
		t.Errorf("Ping after bad calls: %v", err)
	}
}
