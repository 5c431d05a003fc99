package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// An Engine moves blobs to and from one node.
type Engine struct {
	transferpb.UnimplementedTransferServer

	cfg       Config
	store     *blobstore.Store
	directory Directory
	upstream  Upstream
	documents Documents
	status    func(context.Context) ([]byte, error)
	// connections is Parts.Connections.
	connections func(oci.Repository) int
	streams     func(net.Conn)            // Parts.Streams
	hosted      func(oci.Repository) bool // Parts.Hosted
	rights      Rights                    // Parts.Rights
	leases      *leases
	log         *slog.Logger

	peers *peers
	lost  *lostSet
	// distrusted are issuers of piece lists that did not lead to the digest, each with that digest in front.
	distrusted *lostSet
	// doubted are meeting points that said a moment ago that a list which they had handed out is false, each with the
	// digest in front.
	doubted  *lostSet
	holders  *holders
	budget   atomic.Int64        // bytes in flight towards this node
	feeds    atomic.Int64        // blobs that are being read from the upstream
	feeding  atomic.Int64        // bytes of their pieces in memory
	sending  atomic.Int64        // bytes of pieces on their way to peers
	checking chan struct{}       // places of those who hash a piece that came in
	writing  *semaphore.Weighted // bytes of the buffers of those who hash or write one
	upload   *rate.Limiter
	download *rate.Limiter
	buffers  sync.Pool
	blocks   singleflight.Group // by digest and offset
	flying   flying             // blocks on their way from an upstream
	surveys  surveys
	reads    *places       // of blobs that are read from the upstreams
	alone    chan struct{} // places of those who read the upstream because no other node can be reached
	// aloneBlocks are the places of those who read a block of it for that reason.
	aloneBlocks chan struct{}
	// aloneAsking are the places of those who ask it a question for that reason.
	aloneAsking chan struct{}
	// lastTries limits how often the upstream is asked after the owners of a document could not.
	lastTries *rate.Limiter
	counters  counters
	strangers strangers
	// unsafePeers are those that there is no safe connection to.
	unsafePeers strangers
	start       time.Time
	started     chan struct{} // closed when Run has begun

	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // of Run; tasks outlive the requests that started them
	tasks map[oci.Digest]*task
	// leaving are tasks that are out of the table and still have the blob's files open: the next one of a digest waits.
	leaving map[oci.Digest]*task
	group   sync.WaitGroup // grows only while something in it runs, or under mu while ctx is not nil
}

// Parts are what an Engine works with.
type Parts struct {
	Store     *blobstore.Store
	Directory Directory
	Upstream  Upstream
	Documents Documents
	// Status is this node's status as the admin API's JSON, for peers that show the whole farm.
	Status func(context.Context) ([]byte, error)
	// Connections is how many ranges of one blob of a repository may be read at once when one connection does not fill
	// the link, 0 when its upstream gives no ranges. Nil: Config.UpstreamConnections.
	Connections func(oci.Repository) int
	// Streams takes over a connection to the peer door that is for it: with Secure one whose handshake named
	// ProtocolStream, which says by peerid.Holder who is at the other end, else one that has begun with StreamGreeting,
	// which it does not see any more. The gRPC server must serve a Listener. It must not block, and may be called by many
	// at once. Nil: such a connection is refused.
	Streams func(net.Conn)
	// Secure makes the connections to and from peers safe. Nil: they stay as they are, and everybody is believed.
	Secure Secure
	// Hosted tells whether a repository is the farm's own and has no upstream: what is asked for through it exists, as
	// who asks has made sure, and is to be had from members alone. When none of them has it, it is oci.ErrUnavailable.
	// Nil: none is.
	Hosted func(oci.Repository) bool
	// Rights go along with what is asked of peers. Nil: there are none.
	Rights Rights
	// Lease keeps two owners with two views of the ring from reading one blob: who does not get it joins who has it. It
	// is asked before the upstream is. Nil: there are none.
	Lease Lease
}

// New puts an Engine together; Run makes it work.
func New(cfg Config, parts Parts, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg, store: parts.Store, directory: parts.Directory, upstream: parts.Upstream,
		documents: parts.Documents, status: parts.Status, connections: parts.Connections, streams: parts.Streams, hosted: parts.Hosted, rights: parts.Rights, log: log,
		reads: newPlaces(cfg.Budget),
		peers: newPeers(cfg.Dial), lost: newLostSet(cfg.LostFor), distrusted: newLostSet(distrustFor), doubted: newLostSet(cfg.LostFor),
		upload: limiter(cfg.Upload), download: limiter(cfg.Download),
		alone: make(chan struct{}, maxAlone), aloneBlocks: make(chan struct{}, maxAlone), aloneAsking: make(chan struct{}, maxAlone), lastTries: rate.NewLimiter(rate.Every(lastTriesEvery), lastTriesAtOnce),
		checking: make(chan struct{}, 2*runtime.GOMAXPROCS(0)), started: make(chan struct{}), start: time.Now(), tasks: make(map[oci.Digest]*task),
		leaving: make(map[oci.Digest]*task), writing: semaphore.NewWeighted(max(cfg.Budget/8, maxMessage)),
	}
	e.holders, e.leases = newHolders(e), newLeases(e, parts.Lease)
	if parts.Secure != nil {
		e.peers.sealer = &sealer{parts.Secure, newIOBuffers(), e.refusedPeer}
	}
	return e, nil
}

// ErrStopped says that the node is stopping, or does not run yet; a client does well to go elsewhere.
var ErrStopped = fmt.Errorf("node does not run: %w", oci.ErrUnavailable)

// Run lets the engine work until ctx is done, and returns when everything that it started has ended.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.ctx = ctx
	e.mu.Unlock()
	close(e.started)
	e.holders.run(ctx)
	e.mu.Lock()
	e.ctx = nil
	e.mu.Unlock()
	e.group.Wait()
	e.peers.close()
	return ctx.Err()
}

// Started is closed when Run has begun, so that blobs can be asked for.
func (e *Engine) Started() <-chan struct{} { return e.started }

// A Want is what a client, or a look ahead, asks the engine for.
type Want struct {
	Repository oci.Repository
	Digest     oci.Digest
	Size       int64 // bytes, as a manifest claims; 0 when not known
	Ahead      bool  // no client waits for it yet: what clients wait for is read first
	held       bool  // only what is whole here is wanted: nothing is to be fetched
}

// Get starts to fetch a blob, or joins the fetch that is going on. It does not wait; the Handle does. The fetch goes
// on for a while after the last Handle was closed.
func (e *Engine) Get(w Want) (*Handle, error) {
	t, err := e.task(w)
	if err != nil {
		return nil, err
	}
	return &Handle{task: t, want: w}, nil
}

// Peek joins the fetch of a blob if one is going on, and is nil if none is: a task that only lends what is here in part
// fetches nothing.
func (e *Engine) Peek(w Want) *Handle {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tasks[w.Digest]
	if t == nil || t.lendsOnly() {
		return nil
	}
	t.wait(+1)
	e.hurry(t, w)
	return &Handle{task: t, want: w}
}

// task finds or starts the task of a blob and counts a waiter.
func (e *Engine) task(w Want) (*task, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.tasks[w.Digest]; t != nil {
		t.wait(+1)
		t.release(w)
		e.hurry(t, w)
		return t, nil
	}
	if e.ctx == nil || e.ctx.Err() != nil {
		return nil, fmt.Errorf("get %s: %w", w.Digest, ErrStopped)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	t := newTask(e, w, cancel)
	t.before = e.leaving[w.Digest]
	t.wait(+1)
	e.hurry(t, w)
	e.tasks[w.Digest] = t
	e.group.Go(func() {
		defer cancel()
		t.run(ctx)
	})
	return t, nil
}

// find is the task of a blob, or nil.
func (e *Engine) find(d oci.Digest) *task {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tasks[d]
}

// retire takes the task out of the table if nobody needs it; with force, also if somebody does.
func (e *Engine) retire(t *task, force bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !force && t.needed() {
		return false
	}
	if e.tasks[t.digest] == t {
		delete(e.tasks, t.digest)
		e.leaving[t.digest] = t
	}
	return true
}

// closed lets the next task of a digest begin, now that t has given back what it held.
func (e *Engine) closed(t *task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leaving[t.digest] == t {
		delete(e.leaving, t.digest)
	}
	close(t.closed)
}

// all is a copy of the table of tasks.
func (e *Engine) all() []*task {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]*task, 0, len(e.tasks))
	for _, t := range e.tasks {
		out = append(out, t)
	}
	return out
}

// now is the time that swarm goes by.
func (e *Engine) now() time.Duration { return time.Since(e.start) }

// buffer is a piece buffer of n bytes; recycle takes it back.
func (e *Engine) buffer(n int64) *[]byte {
	if b, ok := e.buffers.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, max(n, 1<<20))
	return &b
}

func (e *Engine) recycle(b *[]byte) { e.buffers.Put(b) }
