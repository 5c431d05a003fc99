package copies

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
)

const mebi = 1 << 20

// A rig is a farm of keepers with real stores and gRPC over memory. It is the Farm of each of them.
type rig struct {
	t     testing.TB
	nodes []*rigNode
	tune  func(*Config)
	store func(id string, c *blobstore.Config)
	tcp   bool // over loopback, not memory

	mu   sync.Mutex
	down map[string]bool
	none map[string]bool // no members any more
}

// A rigNode is one node of a rig.
type rigNode struct {
	*Keeper
	rig   *rig
	id    string
	store *blobstore.Store
	cat   *rigCatalog

	mu     sync.Mutex
	server *grpc.Server
	listen net.Listener
	conns  map[string]*grpc.ClientConn
	stored []oci.Digest
}

// A rigCatalog names what it is told to name.
type rigCatalog struct {
	mu    sync.Mutex
	named map[oci.Digest]bool
	notes map[oci.Digest][]byte
	err   error
}

func (c *rigCatalog) Named(_ context.Context, digests []oci.Digest) ([]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	named := make([]bool, len(digests))
	for i, d := range digests {
		named[i] = c.named[d]
	}
	return named, c.err
}

func (c *rigCatalog) Notes(_ context.Context, digests []oci.Digest) (map[oci.Digest][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes := make(map[oci.Digest][]byte)
	for _, d := range digests {
		if n, ok := c.notes[d]; ok {
			notes[d] = n
		}
	}
	return notes, c.err
}

// Merge is the union of words, sorted.
func (c *rigCatalog) Merge(old, note []byte) []byte {
	words := append(bytes.Fields(old), bytes.Fields(note)...)
	slices.SortFunc(words, bytes.Compare)
	return bytes.Join(slices.CompactFunc(words, bytes.Equal), []byte(" "))
}

// newRig starts a farm of n nodes, which end with the test.
func newRig(t testing.TB, n int, tune func(*Config), store func(id string, c *blobstore.Config)) *rig {
	r := &rig{t: t, tune: tune, store: store, down: map[string]bool{}, none: map[string]bool{}}
	_, r.tcp = t.(*testing.B)
	for i := range n {
		r.add(fmt.Sprintf("n%d", i+1))
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) add(id string) *rigNode {
	r.t.Helper()
	c := blobstore.Default(r.t.TempDir())
	c.Issuer = id
	if r.store != nil {
		r.store(id, &c)
	}
	s, err := blobstore.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	n := &rigNode{
		rig: r, id: id, store: s, conns: map[string]*grpc.ClientConn{},
		cat: &rigCatalog{named: map[oci.Digest]bool{}, notes: map[oci.Digest][]byte{}},
	}
	cfg := Default(id)
	if r.tune != nil {
		r.tune(&cfg)
	}
	parts := Parts{Store: s, Farm: rigFarm{r, id}, Catalog: n.cat, Conn: n.conn, Stored: n.hear}
	if n.Keeper, err = New(cfg, parts, slog.New(slog.DiscardHandler)); err != nil {
		r.t.Fatal(err)
	}
	n.serve(func(s *grpc.Server) { n.Register(s) })
	r.mu.Lock()
	r.nodes = append(r.nodes, n)
	r.mu.Unlock()
	return n
}

func (n *rigNode) hear(d oci.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stored = append(n.stored, d)
}

// serve answers peers by what register registers, in the place of what did before.
func (n *rigNode) serve(register func(*grpc.Server), options ...grpc.ServerOption) {
	s := grpc.NewServer(append(options, grpc.ForceServerCodecV2(bulk.NewCodec()), grpc.MaxRecvMsgSize(5<<20),
		grpc.ReadBufferSize(512<<10), grpc.WriteBufferSize(512<<10),
		grpc.InitialWindowSize(16<<20), grpc.InitialConnWindowSize(16<<20))...)
	register(s)
	var l net.Listener = bufconn.Listen(1 << 20)
	if n.rig.tcp {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			n.rig.t.Fatal(err)
		}
	}
	n.mu.Lock()
	old := n.server
	n.server, n.listen = s, l
	n.mu.Unlock()
	if old != nil {
		old.Stop()
	}
	go func() { _ = s.Serve(l) }()
}

// cut ends all that others have open with the node, as a kill does.
func (n *rigNode) cut() {
	n.mu.Lock()
	s := n.server
	n.server, n.listen = nil, nil
	n.mu.Unlock()
	if s != nil {
		s.Stop()
	}
}

func (n *rigNode) dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	l := n.listen
	n.mu.Unlock()
	switch l := l.(type) {
	case *bufconn.Listener:
		return l.DialContext(ctx)
	case *net.TCPListener:
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
	return nil, errors.New("connection refused")
}

// conn is a connection to the node of that id: addresses are ids here.
func (n *rigNode) conn(address string) (grpc.ClientConnInterface, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, id string) (net.Conn, error) { return n.rig.node(id).dial(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bulk.NewCodec()), grpc.MaxCallRecvMsgSize(5<<20)),
		grpc.WithReadBufferSize(512<<10), grpc.WithWriteBufferSize(512<<10),
		grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(16<<20), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	n.conns[address] = c
	return c, nil
}

func (r *rig) node(id string) *rigNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// stop ends all nodes.
func (r *rig) stop() {
	for _, n := range r.nodes {
		n.follows.close()
		for _, c := range n.conns {
			_ = c.Close()
		}
	}
	for _, n := range r.nodes {
		n.cut()
		if err := n.store.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) setDown(id string, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[id] = down
}

// places are all members in the order in which d belongs to them.
func (r *rig) places(d oci.Digest, up bool) []Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Node
	for _, n := range r.nodes {
		if !r.none[n.id] && (!up || !r.down[n.id]) {
			all = append(all, Node{ID: n.id, Address: n.id, Up: !r.down[n.id]})
		}
	}
	weight := func(n Node) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(n.ID + d.String()))
		return h.Sum64()
	}
	slices.SortFunc(all, func(a, b Node) int { return cmp.Compare(weight(b), weight(a)) })
	return all
}

// order are the nodes in the order in which d belongs to them.
func (r *rig) order(d oci.Digest) []*rigNode {
	var all []*rigNode
	for _, n := range r.places(d, false) {
		all = append(all, r.node(n.ID))
	}
	return all
}

// A rigFarm is the rig as one of its nodes sees it.
type rigFarm struct {
	*rig
	id string
}

func (f rigFarm) Places(d oci.Digest, n int, up bool) []Node {
	all := f.places(d, up)
	return all[:min(n, len(all))]
}

func (f rigFarm) Ring() (uint64, int) {
	h, n := fnv.New64a(), 0
	for _, p := range f.places(oci.Digest{}, false) {
		_, _ = h.Write([]byte(p.ID))
		n++
	}
	return h.Sum64(), n
}

func (f rigFarm) Others() []Node {
	return slices.DeleteFunc(f.places(oci.Digest{}, true), func(n Node) bool { return n.ID == f.id })
}

func (f rigFarm) Partition(d oci.Digest) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.String()))
	return int(h.Sum32() % 64)
}

// begin starts an upload here.
func (n *rigNode) begin(algorithm string) *blobstore.Upload {
	n.rig.t.Helper()
	u, err := n.store.StartUpload(oci.Repository{Upstream: "farm.internal", Path: "team/app"}, algorithm)
	if err != nil {
		n.rig.t.Fatal(err)
	}
	return u
}

// upload makes data a hosted blob here, as a client's push does.
func (n *rigNode) upload(data []byte, algorithm string) oci.Digest {
	n.rig.t.Helper()
	u := n.begin(algorithm)
	if _, err := u.Append(n.rig.t.Context(), bytes.NewReader(data)); err != nil {
		n.rig.t.Fatal(err)
	}
	d := oci.FromBytes(algorithm, data)
	if err := u.Commit(n.rig.t.Context(), d, blobstore.Origin{Repository: u.Repository(), Hosted: true}); err != nil {
		n.rig.t.Fatal(err)
	}
	return d
}

// has tells whether the node has d whole, right and hosted.
func (n *rigNode) has(d oci.Digest) bool {
	info, err := n.store.Stat(d)
	if err != nil || !info.Hosted {
		return false
	}
	b, err := n.store.Open(d)
	if err != nil {
		return false
	}
	defer func() { _ = b.Close() }()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(b.File()); err != nil {
		return false
	}
	return oci.FromBytes(d.Algorithm(), buf.Bytes()) == d
}

// holders are the nodes that have d.
func (r *rig) holders(d oci.Digest) (ids []string) {
	for _, n := range r.nodes {
		if n.has(d) {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// clean reports what is left of blobs that did not become whole.
func (n *rigNode) clean() {
	n.rig.t.Helper()
	eventually(n.rig.t, n.id+" has leftovers of what came in", func() bool {
		u := n.store.Usage()
		return u.UploadBytes == 0 && n.incoming.total() == 0
	})
}

// eventually waits for what comes about by itself, in real time or in a bubble's.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(what)
}
