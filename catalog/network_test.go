package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// fakeNetwork is a farm's network in memory: it delays, and cuts pairs of nodes apart. A cut link swallows what is sent.
type fakeNetwork struct {
	t       testing.TB
	dir     string
	witness *witness   // or nil
	real    bool       // calls go through gRPC itself
	rand    *rand.Rand // under mu

	mu    sync.Mutex
	nodes map[string]*fakeNode
	cut   map[[2]string]bool
	dead  map[string]bool // the power is off
	seen  map[[2]string]*sighting
	delay time.Duration // at most, one way
	slow  map[string]time.Duration
	stop  chan struct{}
	done  sync.WaitGroup
}

// sighting is what one node's gossip knows of another.
type sighting struct {
	since, lost, gone time.Time
}

// fakeNode is a host: its disk stays when its node ends.
type fakeNode struct {
	net     *fakeNetwork
	id      string
	zone    string
	seeds   []string
	started time.Time
	boots   int
	leaving bool
	pace    time.Duration // of a clock that goes as it likes: how long the node is a second to itself

	catalog  *Catalog
	desc     *grpc.ServiceDesc
	impl     any
	listener *fakeListener
	server   *grpc.Server // with real calls
	calls    *bufconn.Listener
	conns    map[string]*grpc.ClientConn
	cancel   context.CancelFunc
	ended    chan error
}

func newNetwork(t testing.TB, seed uint64) *fakeNetwork {
	n := &fakeNetwork{
		t: t, dir: testDir(t), rand: rand.New(rand.NewPCG(seed, 1)), nodes: map[string]*fakeNode{},
		cut: map[[2]string]bool{}, dead: map[string]bool{}, seen: map[[2]string]*sighting{}, delay: 2 * time.Millisecond, slow: map[string]time.Duration{},
		stop: make(chan struct{}),
	}
	n.done.Go(n.gossip)
	return n
}

// testDir is a directory in memory where there is one: thousands of small files would wait for the disk.
func testDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "catalog")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// gossip keeps what nodes know of each other.
func (n *fakeNetwork) gossip() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.look()
		}
	}
}

func (n *fakeNetwork) look() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, viewer := range n.nodes {
		for b, node := range n.nodes {
			if a == b || viewer.catalog == nil {
				continue
			}
			there := node.catalog != nil && !n.cut[pair(a, b)]
			s := n.seen[[2]string{a, b}]
			switch {
			case there && s == nil:
				n.seen[[2]string{a, b}] = &sighting{since: time.Now()}
			case there:
				s.lost = time.Time{}
				if !s.gone.IsZero() {
					s.gone, s.since = time.Time{}, time.Now()
				}
			case s != nil && s.lost.IsZero():
				s.lost = time.Now()
			case s != nil && s.gone.IsZero() && time.Since(s.lost) > 3*time.Second:
				s.gone = time.Now()
			}
		}
	}
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// split cuts every link between nodes of different sides; nodes of no side keep their links.
func (n *fakeNetwork) split(sides ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = map[[2]string]bool{}
	for i, side := range sides {
		for _, other := range sides[i+1:] {
			for _, a := range side {
				for _, b := range other {
					n.cut[pair(a, b)] = true
				}
			}
		}
	}
}

func (n *fakeNetwork) heal() { n.split() }

// hop waits as long as a message takes, and tells whether it arrives.
func (n *fakeNetwork) hop(from, to string) bool {
	n.mu.Lock()
	d := time.Duration(0)
	if n.delay > 0 {
		d = time.Duration(n.rand.Int64N(int64(n.delay))) + 1
	}
	n.mu.Unlock()
	time.Sleep(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[pair(from, to)] && !n.dead[from] && !n.dead[to]
}

func (n *fakeNetwork) intn(k int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.IntN(k)
}

func (n *fakeNetwork) ids() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.nodes))
}

// add is a host that is not started yet.
func (n *fakeNetwork) add(id, zone string, seeds ...string) *fakeNode {
	f := &fakeNode{net: n, id: id, zone: zone, seeds: seeds}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[id] = f
	return f
}

func (f *fakeNode) dir() string { return filepath.Join(f.net.dir, f.id) }

// start runs the node on what its disk has.
func (f *fakeNode) start() {
	f.net.t.Helper()
	cfg := Default()
	cfg.Dir, cfg.Node, cfg.Seeds, cfg.NoSync = f.dir(), f.id, f.seeds, true
	cfg.journalBytes = 64 << 10
	cfg.SnapshotAfter, cfg.SnapshotEvery, cfg.Trailing = 100, 5*time.Second, 20
	cfg.BeforeSync = f.sync
	if f.pace > 0 {
		cfg.Heartbeat, cfg.Lease = f.pace, f.pace
	}
	f.net.mu.Lock()
	f.boots++
	cfg.Boot = fmt.Sprintf("%s-%d", f.id, f.boots)
	f.net.mu.Unlock()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("CATALOG_LOG") != "" {
		level := slog.LevelInfo
		if os.Getenv("CATALOG_LOG") == "debug" {
			level = slog.LevelDebug
		}
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", f.id)
	}
	listener := &fakeListener{id: f.id, arrived: make(chan net.Conn), closed: make(chan struct{})}
	c, err := Open(cfg, Parts{Farm: f, Streams: listener, Dial: f.dialStream, Conn: f.conn}, log)
	if err != nil {
		f.net.t.Fatalf("Open(%s) = %v", f.id, err)
	}
	c.Register(f)
	if f.net.real {
		f.serve(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	f.net.mu.Lock()
	f.catalog, f.listener, f.cancel, f.ended, f.started = c, listener, cancel, ended, time.Now()
	delete(f.net.dead, f.id)
	f.net.mu.Unlock()
	go func() { ended <- c.Run(ctx) }()
}

// crash ends the node as a power cut does: nobody hears from it again. Its disk keeps what was stored.
func (f *fakeNode) crash() {
	f.net.mu.Lock()
	f.net.dead[f.id] = true
	f.net.mu.Unlock()
	f.end()
}

// end ends the node in peace.
func (f *fakeNode) end() {
	f.net.t.Helper()
	f.net.mu.Lock()
	c := f.catalog
	f.catalog = nil
	f.net.mu.Unlock()
	if c == nil {
		return
	}
	f.cancel()
	if err := <-f.ended; err != nil {
		f.net.t.Errorf("Run(%s) = %v", f.id, err)
	}
	if f.server != nil {
		f.server.Stop()
	}
}

// serve answers calls through gRPC.
func (f *fakeNode) serve(c *Catalog) {
	server, listener := grpc.NewServer(), bufconn.Listen(64<<10)
	c.Register(server)
	f.net.mu.Lock()
	f.server, f.calls = server, listener
	f.net.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
}

// wipe empties the disk of a node that does not run.
func (f *fakeNode) wipe() {
	if err := os.RemoveAll(f.dir()); err != nil {
		f.net.t.Fatal(err)
	}
}

// sync is how slow the disk is.
func (f *fakeNode) sync() {
	f.net.mu.Lock()
	d := f.net.slow[f.id]
	f.net.mu.Unlock()
	time.Sleep(d)
}

// close ends all nodes and the network.
func (n *fakeNetwork) close() {
	n.heal()
	if n.witness != nil {
		n.witness.end()
	}
	var all sync.WaitGroup
	for _, f := range n.nodes {
		all.Go(f.crash)
	}
	all.Wait()
	for _, f := range n.nodes {
		for _, c := range f.conns {
			_ = c.Close()
		}
	}
	time.Sleep(time.Second) // raft lets its last streams end by themselves
	close(n.stop)
	n.done.Wait()
}

// Members implements Farm.
func (f *fakeNode) Members() []Member {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	var all []Member
	for _, id := range slices.Sorted(maps.Keys(f.net.nodes)) {
		if m, ok := f.lookup(id); ok {
			all = append(all, m)
		}
	}
	return all
}

// Lookup implements Farm.
func (f *fakeNode) Lookup(id string) (Member, bool) {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	return f.lookup(id)
}

func (f *fakeNode) lookup(id string) (Member, bool) {
	node, ok := f.net.nodes[id]
	if !ok {
		return Member{}, false
	}
	m := Member{ID: id, Boot: fmt.Sprintf("%s-%d", id, node.boots), Address: id, Zone: node.zone, Leaving: node.leaving, Since: f.started}
	for _, seed := range f.seeds {
		if strings.ToLower(seed) == id {
			m.Seats = append(m.Seats, seed)
		}
	}
	if id == f.id {
		return m, true
	}
	s := f.net.seen[[2]string{f.id, id}]
	if s == nil {
		return Member{}, false
	}
	m.Since, m.Gone = s.since, s.gone
	return m, true
}

// fakeListener gives the streams that arrive.
type fakeListener struct {
	id      string
	arrived chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *fakeListener) Addr() net.Addr { return placeAddr(l.id) }

// running is the node at an address, if it runs.
func (n *fakeNetwork) running(id string) *fakeNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.nodes[id]; f != nil && f.catalog != nil {
		return f
	}
	return nil
}

var errConnRefused = errors.New("connection refused")

func (f *fakeNode) dialStream(ctx context.Context, address string) (net.Conn, error) {
	if !f.net.hop(f.id, address) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	to := f.net.running(address)
	if to == nil {
		return nil, errConnRefused
	}
	here, there := net.Pipe()
	select {
	case to.listener.arrived <- &fakeStream{Conn: there, net: f.net, from: address, to: f.id}:
		return &fakeStream{Conn: here, net: f.net, from: f.id, to: address}, nil
	case <-to.listener.closed:
		return nil, errConnRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fakeStream is one end of a stream. Once something was lost on it, nothing arrives any more.
type fakeStream struct {
	net.Conn
	net      *fakeNetwork
	from, to string
	broken   bool
}

func (s *fakeStream) Write(b []byte) (int, error) {
	if !s.broken && !s.net.hop(s.from, s.to) {
		s.broken = true
	}
	if s.broken {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// RegisterService implements grpc.ServiceRegistrar.
func (f *fakeNode) RegisterService(desc *grpc.ServiceDesc, impl any) { f.desc, f.impl = desc, impl }

func (f *fakeNode) conn(address string) (grpc.ClientConnInterface, error) {
	if f.net.real {
		return f.realConn(address)
	}
	return fakeConn{f.net, f.id, address}, nil
}

func (f *fakeNode) realConn(address string) (grpc.ClientConnInterface, error) {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	if c := f.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if to := f.net.running(address); to != nil {
				return to.calls.DialContext(ctx)
			}
			return nil, errConnRefused
		}))
	if err == nil {
		if f.conns == nil {
			f.conns = map[string]*grpc.ClientConn{}
		}
		f.conns[address] = c
	}
	return c, err
}

// fakeConn calls a service in memory.
type fakeConn struct {
	net      *fakeNetwork
	from, to string
}

func (c fakeConn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if !c.net.hop(c.from, c.to) {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	to := c.net.running(c.to)
	if to == nil {
		return status.Error(codes.Unavailable, "connection refused")
	}
	request := proto.Clone(args.(proto.Message))
	i := slices.IndexFunc(to.desc.Methods, func(m grpc.MethodDesc) bool { return "/"+to.desc.ServiceName+"/"+m.MethodName == method })
	got, err := to.desc.Methods[i].Handler(to.impl, ctx, func(into any) error {
		proto.Merge(into.(proto.Message), request)
		return nil
	}, nil)
	if !c.net.hop(c.to, c.from) || c.net.running(c.to) != to {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	proto.Merge(reply.(proto.Message), got.(proto.Message))
	return nil
}

func (c fakeConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, io.ErrUnexpectedEOF
}

// bubble runs f in virtual time with a network of its own.
func bubble(t *testing.T, seed uint64, f func(t *testing.T, n *fakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, seed)
		defer n.close()
		f(t, n)
	})
}

// until waits until ok, and fails the test when that takes longer than limit.
func (n *fakeNetwork) until(limit time.Duration, what string, ok func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			n.t.Fatalf("%s: not within %v\n%s", what, limit, n.dump())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}

func (n *fakeNetwork) dump() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(n.nodes)) {
		if f := n.running(id); f != nil {
			fmt.Fprintf(&b, "%s: %+v\n", id, f.catalog.Status())
		} else {
			fmt.Fprintf(&b, "%s: down\n", id)
		}
	}
	return b.String()
}
