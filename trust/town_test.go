package trust

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
)

// A town is a farm of nodes with real certificates and gRPC over memory. It is the catalog and the gossip of each.
type town struct {
	t   *testing.T
	cfg Config
	log bytes.Buffer // of all nodes; guarded by logMu

	logMu sync.Mutex

	mu     sync.Mutex
	houses map[string]*house
	voters []string
	cut    bool                  // the catalog answers nobody
	files  func(id string) Files // of a site's PKI
	swaps  func(id, key string) error
	hidden map[string]bool // their epochs are not told
	blind  map[string]bool // they know nobody by gossip
	ledger map[string]Entry
	index  uint64
	reads  atomic.Int64
}

// A house is a node of a town.
type house struct {
	*Trust
	town *town
	id   string
	dir  string

	peers, door *bufconn.Listener
	server      *grpc.Server
	stop        func()

	mu      sync.Mutex
	conns   map[string]*grpc.ClientConn
	changed []uint64
}

// inTown runs f in a bubble with a farm whose first node is a.
func inTown(t *testing.T, cfg Config, f func(t *testing.T, w *town)) {
	synctest.Test(t, func(t *testing.T) {
		w := &town{t: t, cfg: cfg, houses: map[string]*house{}, ledger: map[string]Entry{}, hidden: map[string]bool{}, blind: map[string]bool{}}
		defer w.stop()
		f(t, w)
		w.checkLog()
	})
}

// checkLog looks for secrets in what the nodes have logged.
func (w *town) checkLog() {
	w.t.Helper()
	var secrets [][]byte
	for _, h := range w.houses {
		secrets = append(secrets, h.GossipKeys()...)
		if k, ok, _ := h.sealKey(); ok {
			secrets = append(secrets, k[:])
		}
	}
	log := w.logged()
	for _, s := range secrets {
		if strings.Contains(log, hex.EncodeToString(s)) || strings.Contains(log, base64.StdEncoding.EncodeToString(s)) || strings.Contains(log, string(s)) {
			w.t.Error("the log shows a key")
		}
	}
	if strings.Contains(log, "p2p1.") || strings.Contains(log, "PRIVATE") {
		w.t.Error("the log shows a token or a private key")
	}
}

// farm starts a farm in which all nodes have joined; the first voters of them are voters.
func (w *town) farm(voters int, ids ...string) []*house {
	w.t.Helper()
	w.setVoters(ids[0])
	first := w.open(ids[0])
	if err := first.Found(); err != nil {
		w.t.Fatal(err)
	}
	first.start()
	w.settle()
	all := []*house{first}
	for _, id := range ids[1:] {
		h := w.open(id)
		if err := h.Join(w.t.Context(), w.token(first, 1), []string{ids[0]}); err != nil {
			w.t.Fatalf("Join of %s = %v", id, err)
		}
		h.start()
		all = append(all, h)
	}
	w.setVoters(ids[:voters]...)
	time.Sleep(10 * time.Second)
	w.settle()
	return all
}

func (w *town) settle() { synctest.Wait() }

func (w *town) setVoters(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.voters = ids
}

// token is one that the node at has made.
func (w *town) token(at *house, uses int) Token {
	w.t.Helper()
	token, info, err := at.CreateToken(w.t.Context(), time.Hour, uses)
	if err != nil {
		w.t.Fatalf("CreateToken = %v", err)
	}
	if info.ID != token.ID() || info.Uses != uses || info.Used != 0 {
		w.t.Fatalf("CreateToken = %v, %+v; want the same of %d uses", token, info, uses)
	}
	return token
}

// open makes a node, or one anew that was stopped.
func (w *town) open(id string) *house {
	w.t.Helper()
	h := &house{town: w, id: id, conns: map[string]*grpc.ClientConn{}}
	w.mu.Lock()
	if old := w.houses[id]; old != nil {
		h.dir = old.dir
	}
	w.mu.Unlock()
	if h.dir == "" {
		h.dir = w.t.TempDir()
	}
	cfg := w.cfg
	cfg.Dir, cfg.Node, cfg.Farm = h.dir, id, testFarm
	cfg.Expect = func(address string) (string, bool) { return address, true }
	if w.files != nil {
		cfg.Mode, cfg.Files = Own, w.files(id)
	}
	var err error
	if h.Trust, err = Open(cfg, slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))); err != nil {
		w.t.Fatal(err)
	}
	h.clerk.dial = w.dial
	w.mu.Lock()
	w.houses[id] = h
	w.mu.Unlock()
	return h
}

// Write takes log lines.
func (w *town) Write(line []byte) (int, error) {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.Write(line)
}

func (w *town) logged() string {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.String()
}

// start brings a node up.
func (h *house) start() {
	h.Attach(Parts{Ledger: &houseLedger{h}, Farm: h, Conn: h.conn, Changed: h.hear, Addresses: h.town.ids})
	h.server = grpc.NewServer(grpc.Creds(houseCreds{h: h}))
	h.Register(h.server)
	h.peers, h.door = bufconn.Listen(1<<16), bufconn.Listen(1<<16)
	ctx, cancel := context.WithCancel(h.town.t.Context())
	wg, server, door := new(sync.WaitGroup), h.server, h.door
	h.town.mu.Lock()
	h.stop = func() {
		cancel()
		server.Stop()
		_ = door.Close()
		h.hangUp()
		wg.Wait()
		h.hangUp()
	}
	h.town.mu.Unlock()
	wg.Go(func() { _ = server.Serve(h.peers) })
	wg.Go(func() { _ = h.Run(ctx) })
	wg.Go(func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			h.TakeDoor(c)
		}
	})
}

// down stops a node as a kill does.
func (h *house) down() {
	h.town.mu.Lock()
	stop := h.stop
	h.stop = nil
	h.town.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// restart is a new process with what the old one had on disk.
func (h *house) restart() *house {
	h.down()
	again := h.town.open(h.id)
	again.start()
	return again
}

func (w *town) stop() {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.houses))
	w.mu.Unlock()
	for _, h := range all {
		h.down()
		h.hangUp()
	}
}

// hangUp closes what a node has open, also one that does not run.
func (h *house) hangUp() {
	h.mu.Lock()
	conns := slices.Collect(maps.Values(h.conns))
	h.conns = map[string]*grpc.ClientConn{}
	h.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	h.open.closeWhere(func(*liveConn) bool { return true })
}

func (w *town) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.houses))
}

func (w *town) up(id string) *house {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.houses[id]; h != nil && h.stop != nil {
		return h
	}
	return nil
}

// dial reaches the gossip port of a node: addresses are ids.
func (w *town) dial(ctx context.Context, address string) (net.Conn, error) {
	h := w.up(address)
	if h == nil {
		return nil, errors.New("connection refused")
	}
	return h.door.DialContext(ctx)
}

func (h *house) hear(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = append(h.changed, s.Epoch)
}

// conn is a connection to the peer door of a node.
func (h *house) conn(address string) (grpc.ClientConnInterface, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(houseCreds{h: h, address: address}),
		grpc.WithContextDialer(func(ctx context.Context, id string) (net.Conn, error) {
			there := h.town.up(id)
			if there == nil {
				return nil, errors.New("connection refused")
			}
			return there.peers.DialContext(ctx)
		}), grpc.WithDisableServiceConfig())
	if err == nil {
		h.conns[address] = c
	}
	return c, err
}

// Voters implements Farm.
func (h *house) Voters() []Peer { return h.seen(h.town.peers(h.town.votersNow(), false)) }

// Members implements Farm.
func (h *house) Members() []Peer { return h.seen(h.town.peers(h.town.ids(), true)) }

func (h *house) seen(peers []Peer) []Peer {
	h.town.mu.Lock()
	defer h.town.mu.Unlock()
	if h.town.blind[h.id] {
		return nil
	}
	return peers
}

// IsVoter implements Farm.
func (h *house) IsVoter(id string) bool { return slices.Contains(h.town.votersNow(), id) }

func (w *town) votersNow() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.voters)
}

func (w *town) peers(ids []string, alive bool) (list []Peer) {
	for _, id := range ids {
		h := w.up(id)
		if h == nil && alive {
			continue
		}
		p := Peer{ID: id, Address: id}
		w.mu.Lock()
		hidden := w.hidden[id]
		w.mu.Unlock()
		if h != nil && !hidden {
			p.Epoch = h.State().Epoch
		}
		list = append(list, p)
	}
	return list
}

// houseCreds does what the peer door does with trust.
type houseCreds struct {
	h       *house
	address string
}

type houseInfo struct{ id string }

func (houseInfo) AuthType() string { return "test" }

func (i houseInfo) PeerID() string { return i.id }

func (c houseCreds) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, id, err := c.h.Client(ctx, raw, c.address, "h2")
	return conn, houseInfo{id}, err
}

func (c houseCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, id, _, err := c.h.Server(c.h.town.t.Context(), raw)
	return conn, houseInfo{id}, err
}

func (c houseCreds) Info() credentials.ProtocolInfo { return credentials.ProtocolInfo{} }

func (c houseCreds) Clone() credentials.TransportCredentials { return c }

func (c houseCreds) OverrideServerName(string) error { return nil }

// A houseLedger is the town's catalog as a node sees it: there is an answer while most voters are up and members.
type houseLedger struct{ h *house }

var errNoQuorum = errors.New("no quorum")

func (l *houseLedger) reach() error {
	w := l.h.town
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	good := 0
	voters := w.votersNow()
	for _, id := range voters {
		if h := w.up(id); h != nil && h.Member() {
			good++
		}
	}
	if cut || good <= len(voters)/2 || !l.h.Member() {
		return errNoQuorum
	}
	return nil
}

// Get implements Ledger.
func (l *houseLedger) Get(_ context.Context, key string) ([]byte, uint64, error) {
	if err := l.reach(); err != nil {
		return nil, 0, err
	}
	w := l.h.town
	w.reads.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.ledger[key]
	return bytes.Clone(e.Value), e.Index, nil
}

// List implements Ledger.
func (l *houseLedger) List(_ context.Context, prefix string) ([]Entry, error) {
	if err := l.reach(); err != nil {
		return nil, err
	}
	w := l.h.town
	w.reads.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Entry
	for _, key := range slices.Sorted(maps.Keys(w.ledger)) {
		if strings.HasPrefix(key, prefix) {
			list = append(list, w.ledger[key])
		}
	}
	return list, nil
}

// Swap implements Ledger.
func (l *houseLedger) Swap(_ context.Context, key string, value []byte, ifIndex uint64) (uint64, error) {
	if err := l.reach(); err != nil {
		return 0, err
	}
	w := l.h.town
	w.mu.Lock()
	fault := w.swaps
	w.mu.Unlock()
	if fault != nil {
		if err := fault(l.h.id, key); err != nil {
			return 0, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger[key].Index != ifIndex {
		return 0, ErrChanged
	}
	w.index++
	if len(value) == 0 {
		delete(w.ledger, key)
		return 0, nil
	}
	w.ledger[key] = Entry{key, bytes.Clone(value), w.index}
	return w.index, nil
}

// eventually waits, in the bubble's time, for what is to come.
func (w *town) eventually(within time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		w.settle()
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > within {
			w.t.Fatalf("%s: not within %v\n%s", what, within, w.logged())
		}
		time.Sleep(100 * time.Millisecond)
	}
}
