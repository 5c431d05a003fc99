package copies

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
)

// A village is a farm of keepers in memory, each with a store in a directory of its own. All see the same ring and the
// same nodes up, unless a test says otherwise.
type village struct {
	t      *testing.T
	change func(*Config)

	mu      sync.Mutex
	doors   map[string]*bufconn.Listener
	members []string
	up      map[string]bool
	unnamed map[oci.Digest]bool
	notes   map[oci.Digest][]byte
	silent  bool // the catalog does not answer
	calls   map[string]int
	bytes   map[string]int
	stored  []string // "node digest" in the order in which copies came
	onNamed func([]oci.Digest)
}

func newVillage(t *testing.T, change func(*Config)) *village {
	return &village{
		t: t, change: change, doors: make(map[string]*bufconn.Listener), up: make(map[string]bool),
		unnamed: make(map[oci.Digest]bool), notes: make(map[oci.Digest][]byte),
		calls: make(map[string]int), bytes: make(map[string]int),
	}
}

// A cottage is one node of a village.
type cottage struct {
	*Keeper
	v     *village
	id    string
	dir   string
	store *blobstore.Store
	view  *view
	stop  func()
}

// build opens nodes and makes them the ring.
func (v *village) build(ids ...string) map[string]*cottage {
	v.t.Helper()
	all := make(map[string]*cottage)
	for _, id := range ids {
		all[id] = v.open(id, v.t.TempDir())
	}
	v.ring(ids...)
	for _, c := range all {
		c.start()
	}
	return all
}

func (v *village) ring(ids ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.members = slices.Sorted(slices.Values(ids))
}

func (v *village) open(id, dir string) *cottage {
	v.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("VILLAGE_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
	}
	cfg := blobstore.Default(dir)
	cfg.Issuer = id
	store, err := blobstore.Open(cfg, log)
	if err != nil {
		v.t.Fatal(err)
	}
	c := &cottage{v: v, id: id, dir: dir, store: store, view: &view{v: v, self: id}, stop: func() { _ = store.Close() }}
	conns := &conns{v: v, byID: make(map[string]*grpc.ClientConn)}
	config := Default(id)
	if v.change != nil {
		v.change(&config)
	}
	c.Keeper, err = New(config, Parts{
		Store: store, Farm: c.view, Catalog: register{v}, Conn: conns.to,
		Stored: func(d oci.Digest) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.stored = append(v.stored, id+" "+d.String())
		},
	}, log)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.stop(); conns.close() })
	return c
}

// start lets a node answer and work.
func (c *cottage) start() {
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.ForceServerCodecV2(bulk.NewCodec()), grpc.UnaryInterceptor(c.v.count))
	c.Register(s)
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.v.t.Context()))
	var g sync.WaitGroup
	g.Go(func() { _ = s.Serve(l) })
	g.Go(func() { _ = c.Run(ctx) })
	c.v.mu.Lock()
	c.v.doors[c.id], c.v.up[c.id] = l, true
	c.v.mu.Unlock()
	c.stop = sync.OnceFunc(func() {
		c.v.mu.Lock()
		delete(c.v.doors, c.id)
		delete(c.v.up, c.id)
		c.v.mu.Unlock()
		cancel()
		s.Stop()
		_ = l.Close()
		g.Wait()
		_ = c.store.Close()
	})
}

// again starts a node that was stopped, with what it has on disk.
func (c *cottage) again() *cottage {
	n := c.v.open(c.id, c.dir)
	n.start()
	return n
}

func (v *village) count(ctx context.Context, q any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	v.mu.Lock()
	at := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	v.calls[at]++
	if m, ok := q.(proto.Message); ok {
		v.bytes[at] += proto.Size(m)
	}
	v.mu.Unlock()
	return next(ctx, q)
}

// conns are one node's connections.
type conns struct {
	v *village

	mu   sync.Mutex
	byID map[string]*grpc.ClientConn
}

func (c *conns) to(id string) (grpc.ClientConnInterface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.byID[id]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+id,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1, MaxDelay: time.Second}}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bulk.NewCodec())),
		grpc.WithContextDialer(func(ctx context.Context, id string) (net.Conn, error) {
			c.v.mu.Lock()
			door := c.v.doors[id]
			c.v.mu.Unlock()
			if door == nil {
				return nil, errors.New("connection refused")
			}
			return door.DialContext(ctx)
		}))
	c.byID[id] = conn
	return conn, err
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.byID {
		_ = conn.Close()
	}
}

const villageParts = 16

// A view is the farm as one node sees it.
type view struct {
	v    *village
	self string

	mu      sync.Mutex
	members []string // when it sees another ring than the others
}

func (w *view) ring() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.members != nil {
		return w.members
	}
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	return w.v.members
}

func (w *view) see(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = ids
}

func (w *view) Places(d oci.Digest, n int, up bool) []Node {
	members := slices.Clone(w.ring())
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	weight := func(id string) uint64 {
		return xxhash.Sum64(binary.AppendUvarint([]byte(id+" "), uint64(w.Partition(d))))
	}
	slices.SortFunc(members, func(a, b string) int {
		if weight(a) < weight(b) {
			return -1
		}
		return 1
	})
	var out []Node
	for _, id := range members {
		if len(out) < n && (!up || w.v.up[id]) {
			out = append(out, Node{ID: id, Address: id, Up: w.v.up[id]})
		}
	}
	return out
}

func (w *view) Ring() (uint64, int) {
	members := w.ring()
	return xxhash.Sum64String(strings.Join(members, " ")), len(members)
}

func (w *view) Others() []Node {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	var out []Node
	for _, id := range slices.Sorted(maps.Keys(w.v.up)) {
		if id != w.self {
			out = append(out, Node{ID: id, Address: id, Up: true})
		}
	}
	return out
}

func (w *view) Partition(d oci.Digest) int {
	return int(xxhash.Sum64String(d.String()) % villageParts)
}

// A register is a catalog that names everything but what a test says.
type register struct{ v *village }

func (r register) Named(_ context.Context, digests []oci.Digest) ([]bool, error) {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	if r.v.silent {
		return nil, errors.New("no quorum")
	}
	out := make([]bool, len(digests))
	for i, d := range digests {
		out[i] = !r.v.unnamed[d]
	}
	if f := r.v.onNamed; f != nil {
		r.v.mu.Unlock()
		f(digests)
		r.v.mu.Lock()
	}
	return out, nil
}

func (r register) Notes(_ context.Context, digests []oci.Digest) (map[oci.Digest][]byte, error) {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	out := make(map[oci.Digest][]byte)
	for _, d := range digests {
		if note := r.v.notes[d]; note != nil {
			out[d] = note
		}
	}
	return out, nil
}

func (register) Merge(old, note []byte) []byte {
	if string(old) > string(note) {
		return old
	}
	return note
}

// data is some bytes that only this seed has.
func data(seed uint64, n int) []byte {
	out := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32), 1})
	_, _ = r.Read(out)
	return out
}

// has puts a hosted blob into the stores of some nodes, as if it had been pushed there.
func (v *village) has(raw []byte, nodes ...*cottage) oci.Digest {
	v.t.Helper()
	d := oci.FromBytes(oci.SHA256, raw)
	for _, c := range nodes {
		if err := c.store.Put(v.t.Context(), d, raw, blobstore.Origin{Hosted: true}); err != nil {
			v.t.Fatal(err)
		}
	}
	return d
}

// places are the nodes where d belongs by the ring.
func (v *village) places(all map[string]*cottage, d oci.Digest, n int) []*cottage {
	var out []*cottage
	for _, node := range (&view{v: v}).Places(d, n, false) {
		out = append(out, all[node.ID])
	}
	return out
}

// holders are the ids of the nodes that keep d as hosted.
func holders(all map[string]*cottage, d oci.Digest) []string {
	var out []string
	for id, c := range all {
		if c.hostsNow(d) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func ids(nodes []*cottage) []string {
	var out []string
	for _, c := range nodes {
		out = append(out, c.id)
	}
	slices.Sort(out)
	return out
}

func (v *village) callsOf(method string) (n, bytes int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[method], v.bytes[method]
}
