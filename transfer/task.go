package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

// self is this node's own handle in every swarm.
const self swarm.Peer = 0

// errAbandoned ends a fetch that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for the blob any more")

// A task is this node's part in the swarm of one blob: fetching it, holding it, or both.
type task struct {
	e       *Engine
	digest  oci.Digest
	cancel  context.CancelFunc
	log     *slog.Logger
	kick    chan struct{} // something changed: the driver looks again
	listed  chan struct{} // closed when list and store are set, or the blob is whole
	whole   chan struct{} // closed when every piece is here and checked
	ended   chan struct{} // closed when the task is over; err says why
	vouched chan struct{} // closed when repo has confirmed the blob
	wanted  atomic.Bool   // a client, or a peer, has come for the blob: it is not fetched ahead (any more)
	closed  chan struct{} // closed when the task has given back all that it held of the store
	before  *task         // the task of the same digest that this one follows, and waits for; nil as a rule
	slots   slotTray      // upload slots that are to be given back
	stray   chan string   // a meeting point that gave a wrong piece

	// files is held alone by who changes the partial or the whole blob that the task has open, and shared by who reads,
	// writes or opens a reader of them, so that nothing is closed under its users. It is held over I/O on purpose, and is
	// taken before mu, never after.
	files sync.RWMutex

	mu        sync.Mutex
	repo      oci.Repository // through which the upstream is asked
	claimed   int64          // bytes, as a manifest says
	held      bool           // nothing is to be fetched: the task is there to serve what is whole
	list      *piece.List
	partial   *blobstore.Partial
	blob      *blobstore.Blob
	small     []byte // of a blob that came inline
	fetcher   *swarm.Fetcher
	uploads   *swarm.Uploads
	register  *swarm.Register // of a meeting point
	members   map[swarm.Peer]*member
	handles   map[string]swarm.Peer
	next      swarm.Peer
	cancels   map[swarm.Request]context.CancelFunc
	pushing   map[swarm.Push]context.CancelFunc
	waiters   int
	touched   time.Duration // when the last waiter left or was there
	at        string        // the meeting point that this node has registered with, if any
	path      []string      // the nodes that it waits for itself, while it has no list
	tried     []string      // nodes that were found to be without the blob
	meeting   bool          // this node reads the upstream for the swarm, or has all of it
	source    bool          // the upstream is being read
	place     *turn         // held while it is
	queued    bool          // the task waits for such a place
	intends   bool          // it is about to be
	asked     int           // pieces up to here the upstream has been asked for in order
	yielded   int           // how often it has gone to the node that has the lease
	imports   bool          // this node fetches the blob for its zone, from another
	seedState bool          // what the neighbours were told last
	err       error
	done      bool

	lastDoubts map[string]struct{} // nodes whose last piece did not match
	elsewhere  *piece.Bitmap       // what live nodes were found to have when this one took over
	holders    []*transferpb.Node  // nodes that have the blob, beside the meeting point, and are to be met
}

// A member is another node in the swarm.
type member struct {
	node    Node
	handle  swarm.Peer
	line    atomic.Pointer[peer]
	outs    []*outbox // its exchange streams
	guests  []*outbox // its register streams with this meeting point
	dialing bool
	// abroad is what a node of another zone has, which this one does not take as long as it gets on without; nil for
	// one of this zone, and for all when this node imports for its zone.
	abroad *piece.Bitmap
}

// peer is the connection to the node.
func (m *member) peer() *peer { return m.line.Load() }

// inUse tells whether streams to or from the node are open, or about to be. The caller holds the task's mu.
func (m *member) inUse() bool { return len(m.outs) > 0 || len(m.guests) > 0 || m.dialing }

func newTask(e *Engine, w Want, cancel context.CancelFunc) *task {
	t := &task{
		e: e, digest: w.Digest, cancel: cancel, repo: w.Repository, claimed: w.Size, held: w.held,
		log:  e.log.With(slog.String("digest", w.Digest.String())),
		kick: make(chan struct{}, 1), listed: make(chan struct{}), whole: make(chan struct{}), ended: make(chan struct{}), vouched: make(chan struct{}), closed: make(chan struct{}), stray: make(chan string, 1),
		members: make(map[swarm.Peer]*member), handles: map[string]swarm.Peer{e.cfg.Self.ID: self}, next: self + 1,
		cancels: make(map[swarm.Request]context.CancelFunc), pushing: make(map[swarm.Push]context.CancelFunc),
		touched: e.now(),
	}
	if e.isHosted(w.Repository) {
		close(t.vouched) // by who asked: there is nobody else to
	}
	return t
}

// run gets the blob and then serves it for as long as others take part.
func (t *task) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	err := t.follow(ctx)
	if err == nil {
		err = t.open(ctx)
	}
	if err == nil {
		group.Go(func() { t.drive(ctx) })
		group.Go(func() { t.watch(ctx, cancel) })
		switch {
		case t.isComplete():
		case t.holdsOnly():
			err = t.lend(ctx)
		default:
			err = t.obtain(ctx)
		}
		if err == nil {
			t.serve(ctx)
		}
	}
	t.end(err)
	cancel()
	group.Wait()
	t.close()
}

// open takes up what the store has of the blob: all, some pieces, or nothing.
func (t *task) open(ctx context.Context) error {
	blob, err := t.e.store.Open(t.digest)
	if err == nil {
		return t.takeWhole(ctx, blob)
	}
	if !errors.Is(err, oci.ErrNotFound) {
		t.log.Warn("blob not readable, fetching it anew", slog.Any("error", err))
	}
	partial, err := t.e.store.FindPartial(t.digest)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partial = partial
	t.begin(partial.List())
	return nil
}

// begin sets up the swarm's logic for a list. The caller holds mu.
func (t *task) begin(list *piece.List) {
	first := t.list == nil
	t.list = list
	has := piece.NewBitmap(list.Count())
	if t.blob != nil {
		has = piece.FullBitmap(list.Count())
	} else if t.small != nil {
		has = piece.FullBitmap(list.Count())
	} else if t.partial != nil {
		has = t.partial.Bitmap()
	}
	cfg := swarm.Default(list.Count())
	cfg.Outstanding, cfg.StallAfter = t.e.cfg.Outstanding, t.e.cfg.PieceTimeout
	t.fetcher = swarm.NewFetcher(cfg, has, newRand())
	t.fetcher.Begin(t.e.now())
	t.fetcher.SetKnown(list.Known())
	t.uploads = swarm.NewUploads(t.e.cfg.UploadSlots)
	t.register = nil
	if first {
		close(t.listed)
	}
	if t.complete() {
		t.meeting = true
		if !t.isComplete() {
			close(t.whole)
		}
	}
	t.wake()
}

// extend takes midstates that the meeting point sent. The caller holds mu.
func (t *task) extend(first int, midstates []byte) error {
	if len(midstates) == 0 {
		return nil
	}
	if err := t.list.Extend(first, midstates); err != nil {
		return err
	}
	t.fetcher.SetKnown(t.list.Known())
	t.wake()
	return nil
}

// complete tells whether every piece is here. The caller holds mu.
func (t *task) complete() bool { return t.fetcher != nil && t.fetcher.Complete() }

func (t *task) isComplete() bool {
	select {
	case <-t.whole:
		return true
	default:
		return false
	}
}

// stored notes a piece that is checked and written. The caller holds mu.
func (t *task) stored(i int, from swarm.Peer, pushed bool) {
	now := t.e.now()
	var fresh bool
	if pushed || from == self {
		fresh = t.fetcher.Stored(i, now)
	} else {
		fresh = t.fetcher.Received(from, i, now)
	}
	if !fresh {
		t.e.counters.duplicates.Add(1)
	}
	if t.register != nil && (from == self || t.imports) {
		t.register.Seeder().Add(i)
	}
	if t.complete() && !t.isComplete() {
		t.meeting = true
		close(t.whole)
	}
	t.wake()
}

// wake makes the driver look again. It never blocks.
func (t *task) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// vouch notes that the repository through which the blob is fetched has confirmed it. The caller holds mu.
func (t *task) vouch() {
	select {
	case <-t.vouched:
	default:
		close(t.vouched)
	}
}

// read gives piece i, which is checked, in a buffer of the engine's.
func (t *task) read(ctx context.Context, list *piece.List, i int) (*[]byte, error) {
	t.files.RLock()
	defer t.files.RUnlock()
	t.mu.Lock()
	same, partial, blob, small := t.list == list, t.partial, t.blob, t.small
	t.mu.Unlock()
	if !same {
		return nil, fmt.Errorf("read piece %d of %s: the list has changed: %w", i, t.digest, oci.ErrNotFound)
	}
	off, n := list.Bounds(i)
	buf := t.e.buffer(n)
	var err error
	switch {
	case small != nil:
		copy(*buf, small[off:])
	case blob != nil:
		_, err = blob.ReadPiece(ctx, i, *buf)
	case partial != nil:
		if _, err = partial.ReadPiece(i, *buf); err != nil {
			t.lacks(i)
		}
	default:
		err = oci.ErrNotFound
	}
	if err != nil {
		t.e.recycle(buf)
		return nil, fmt.Errorf("read piece %d of %s: %w", i, t.digest, err)
	}
	return buf, nil
}

// lacks notes that a piece which was here is not any more.
func (t *task) lacks(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher != nil {
		t.fetcher.Drop(i)
	}
}

// repository is the one through which the blob is fetched.
func (t *task) repository() oci.Repository {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.repo
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
