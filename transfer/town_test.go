package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

// A town is a farm of engines in memory, each with a directory of its own that a test may change.
type town struct {
	t     *testing.T
	up    *shelf
	parts func(id string, p *Parts, c *Config) // may change what a node is built of; nil: nothing
	mu    sync.Mutex
	doors map[string]*bufconn.Listener // by address
	cut   map[string]bool              // addresses at which nobody answers
}

func newTown(t *testing.T) *town {
	return &town{t: t, up: &shelf{blobs: make(map[oci.Digest][]byte)}, doors: make(map[string]*bufconn.Listener), cut: make(map[string]bool)}
}

// dial connects to a door; to one that is cut off for as long as the caller has.
func (w *town) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	door, cut := w.doors[address], w.cut[address]
	w.mu.Unlock()
	switch {
	case cut:
		<-ctx.Done()
		return nil, ctx.Err()
	case door == nil:
		return nil, errors.New("connection refused")
	}
	return door.DialContext(ctx)
}

func (w *town) cutOff(address string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[address] = cut
}

// A house is one node of a town.
type house struct {
	*Engine
	known *lookout
	stop  func()
}

// build opens a node that knows itself alone. Its store is kept over runs in dir.
func (w *town) build(id, dir string, run bool) *house {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := blobstore.Default(dir)
	cfg.Issuer = id
	h := &house{known: &lookout{self: id}}
	cfg.OnDrop = func(d oci.Digest) { h.Dropped(d) }
	store, err := blobstore.Open(cfg, log)
	if err != nil {
		w.t.Fatal(err)
	}
	c := Default()
	c.Self, c.Dial = Node{ID: id, Boot: "boot of " + id, Address: id}, w.dial
	parts := Parts{Store: store, Directory: h.known, Upstream: w.up, Documents: w.up}
	if w.parts != nil {
		w.parts(id, &parts, &c)
	}
	if h.Engine, err = New(c, parts, log); err != nil {
		w.t.Fatal(err)
	}
	l := bufconn.Listen(256 << 10)
	w.mu.Lock()
	w.doors[id] = l
	w.mu.Unlock()
	s := grpc.NewServer(h.ServerOptions()...)
	h.Attach(s)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var group sync.WaitGroup
	group.Go(func() { _ = s.Serve(Listener(l)) })
	if run {
		group.Go(func() { _ = h.Run(ctx) })
		group.Go(func() { _ = store.Run(ctx) })
		<-h.Started()
	}
	h.stop = sync.OnceFunc(func() {
		s.Stop()
		cancel()
		group.Wait()
		h.peers.close()
		_ = store.Close()
		w.mu.Lock()
		delete(w.doors, id)
		w.mu.Unlock()
	})
	w.t.Cleanup(h.stop)
	return h
}

// houses opens nodes of these names that know each other.
func (w *town) houses(ids ...string) []*house {
	w.t.Helper()
	var all []*house
	for _, id := range ids {
		all = append(all, w.build(id, w.t.TempDir(), true))
	}
	acquaint(all...)
	return all
}

// acquaint gives all nodes one view of which they all are members.
func acquaint(all ...*house) {
	for _, h := range all {
		h.known.set(all, all...)
	}
}

// A lookout is a directory that a test changes.
type lookout struct {
	self string

	mu    sync.Mutex
	view  *ring.View
	nodes []Node
}

// set makes members the ring and there the nodes that are there.
func (l *lookout) set(members []*house, there ...*house) {
	var placed []ring.Member
	for _, h := range members {
		placed = append(placed, ring.Member{ID: h.cfg.Self.ID, Egress: true})
	}
	var nodes []Node
	for _, h := range there {
		nodes = append(nodes, h.cfg.Self)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view, l.nodes = ring.NewBuilder(64).Update(placed), nodes
}

func (l *lookout) View() *ring.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view == nil {
		l.view = ring.NewBuilder(64).Update([]ring.Member{{ID: l.self, Egress: true}})
	}
	return l.view
}

func (l *lookout) Lookup(id string) (Node, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return Node{}, false
	}
	return l.nodes[i], true
}

func (l *lookout) Others() []Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.nodes), func(n Node) bool { return n.ID == l.self })
}

func (l *lookout) Snapshot() []byte       { return nil }
func (l *lookout) Merge([]byte)           {}
func (l *lookout) Observe(string, uint64) {}

// A shelf is an upstream of blobs in memory.
type shelf struct {
	mu    sync.Mutex
	blobs map[oci.Digest][]byte
	sent  atomic.Int64
	delay time.Duration // before an answer
	pace  time.Duration // before each part of it
}

func (s *shelf) find(d oci.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[d]
	if !ok {
		return nil, oci.ErrNotFound
	}
	return data, nil
}

func (s *shelf) Blob(_ context.Context, _ oci.Repository, d oci.Digest, off, n int64) (Body, error) {
	time.Sleep(s.delay)
	data, err := s.find(d)
	if err != nil {
		return Body{}, err
	}
	rest := data[off:]
	if n >= 0 {
		rest = rest[:n]
	}
	return Body{
		ReadCloser: io.NopCloser(&countedReader{bytes.NewReader(rest), &s.sent, s.pace}), End: off + int64(len(rest)), Size: int64(len(data)),
	}, nil
}

// A countedReader counts what is read.
type countedReader struct {
	io.Reader
	n    *atomic.Int64
	pace time.Duration
}

func (r *countedReader) Read(b []byte) (int, error) {
	if r.pace > 0 {
		time.Sleep(r.pace)
		b = b[:min(len(b), 256<<10)]
	}
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

func (s *shelf) StatBlob(_ context.Context, _ oci.Repository, d oci.Digest) (int64, error) {
	data, err := s.find(d)
	return int64(len(data)), err
}

// Document answers peers that ask whether a repository has a blob.
func (s *shelf) Document(_ context.Context, q Question) (Answer, error) {
	d, err := oci.ParseDigest(q.Reference)
	if err != nil {
		return Answer{}, err
	}
	data, err := s.find(d)
	return Answer{Digest: d, Size: int64(len(data))}, err
}

// ownedBy puts a blob of n bytes into the upstream that a view gives to an owner; salt makes blobs differ.
func (w *town) ownedBy(view *ring.View, owner string, n int, salt string) ([]byte, oci.Digest) {
	w.t.Helper()
	data := make([]byte, n)
	for i := range 10_000 {
		copy(data, fmt.Sprintf("%s %d", salt, i))
		if n > 1<<20 {
			copy(data[n-100:], fmt.Sprintf("%s %d", salt, i))
		}
		if d := oci.FromBytes(oci.SHA256, data); view.Owner(d) == owner {
			w.up.mu.Lock()
			defer w.up.mu.Unlock()
			w.up.blobs[d] = data
			return data, d
		}
	}
	w.t.Fatalf("%s owns nothing", owner)
	return nil, oci.Digest{}
}

var testRepo = oci.Repository{Upstream: oci.DockerHub, Path: "library/app"}

// keep puts a blob into a node's store, as a pull does.
func (h *house) keep(t *testing.T, data []byte) oci.Digest {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, data)
	if err := h.store.Put(t.Context(), d, data, originOf(testRepo)); err != nil {
		t.Fatal(err)
	}
	h.holders.stored(d)
	return d
}

// get reads a blob as a client does.
func (h *house) get(ctx context.Context, d oci.Digest) ([]byte, error) {
	return h.getWant(ctx, Want{Repository: testRepo, Digest: d})
}

func (h *house) getWant(ctx context.Context, w Want) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	handle, err := h.Get(w)
	if err != nil {
		return nil, err
	}
	defer func() { _ = handle.Close() }()
	if err := handle.Ready(ctx, 0); err != nil {
		return nil, err
	}
	size, err := handle.Size(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = handle.WriteRange(ctx, &out, 0, size)
	return out.Bytes(), err
}
