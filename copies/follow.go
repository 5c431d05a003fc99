package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// keepFollowed is how long a blob that was sent along waits for the Put that asks what became of it.
const keepFollowed = time.Minute

var errForgotten = errors.New("upload was cancelled")

// follows are the uploads whose bytes are sent along while they arrive.
type follows struct {
	limit int

	mu       sync.Mutex
	closed   bool
	uploads  map[string]*follow
	blobs    map[oci.Digest]*follow // those that were committed
	underway sync.WaitGroup
}

// A follow is one upload and where it is sent.
type follow struct {
	id      string
	cancel  context.CancelCauseFunc
	sends   map[string]*companion // by node; does not change
	dropped chan struct{}         // closed when nobody will ask any more; guarded by the lock of follows
	gone    bool                  // it is
}

// A companion is an upload on its way to one node.
type companion struct {
	done   chan struct{}
	status copiespb.StoreReply_Status // once done
	err    error
}

func newFollows(limit int) *follows {
	return &follows{limit: limit, uploads: make(map[string]*follow), blobs: make(map[oci.Digest]*follow)}
}

// begin makes a follow of an upload known. There is none when there are too many, or when it is followed already.
func (f *follows) begin(id string, to []Node, cancel context.CancelCauseFunc) *follow {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.uploads[id] != nil || len(f.uploads) >= f.limit {
		return nil
	}
	w := &follow{id: id, cancel: cancel, sends: make(map[string]*companion), dropped: make(chan struct{})}
	for _, n := range to {
		w.sends[n.ID] = &companion{done: make(chan struct{})}
	}
	f.uploads[id] = w
	f.underway.Add(1)
	return w
}

// committed has an upload be found by its digest.
func (f *follows) committed(id string, d oci.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.uploads[id]
	if w == nil {
		return
	}
	delete(f.uploads, id)
	if old := f.blobs[d]; old != nil {
		f.drop(old)
	}
	f.blobs[d] = w
}

// drop lets a follow go. The caller holds mu.
func (f *follows) drop(w *follow) {
	if !w.gone {
		w.gone = true
		close(w.dropped)
	}
}

// forget removes a follow from where it is found.
func (f *follows) forget(w *follow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploads[w.id] == w {
		delete(f.uploads, w.id)
	}
	for d, other := range f.blobs {
		if other == w {
			delete(f.blobs, d)
		}
	}
}

// to is the sending of d to a node, or nil.
func (f *follows) to(d oci.Digest, node string) *companion {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.blobs[d]; w != nil {
		return w.sends[node]
	}
	return nil
}

// settled notes that nobody will ask for d any more.
func (f *follows) settled(d oci.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.blobs[d]; w != nil {
		f.drop(w)
	}
}

// total is how many there are.
func (f *follows) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.uploads) + len(f.blobs)
}

// close ends all and waits for that.
func (f *follows) close() {
	f.mu.Lock()
	f.closed = true
	for _, w := range f.uploads {
		w.cancel(errForgotten)
	}
	for _, w := range f.blobs {
		w.cancel(errForgotten)
	}
	f.mu.Unlock()
	f.underway.Wait()
}

// Follow has the bytes of an upload that begins here sent along while they arrive, so that little is left to do at its
// end. It does so only when it is plain where the blob will belong: on every member that is up. It returns at once; the
// sending goes on after ctx.
func (k *Keeper) Follow(ctx context.Context, id string) {
	others := k.parts.Farm.Others()
	if len(others) == 0 || len(others)+1 > k.cfg.Copies {
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	w := k.follows.begin(id, others, cancel)
	if w == nil {
		cancel(nil)
		return
	}
	go func() {
		defer k.follows.underway.Done()
		defer cancel(nil)
		defer k.follows.forget(w)
		k.follow(ctx, w, others)
	}()
}

// follow sends an upload to some nodes and keeps what came of it until somebody has asked.
func (k *Keeper) follow(ctx context.Context, w *follow, to []Node) {
	var all sync.WaitGroup
	for _, n := range to {
		all.Go(func() {
			s := w.sends[n.ID]
			defer close(s.done)
			s.status, s.err = k.followTo(ctx, w.id, n)
			k.log.LogAttrs(ctx, slog.LevelDebug, "upload sent along", slog.String("upload", w.id), slog.String("peer", n.ID),
				slog.String("status", s.status.String()), slog.Any("error", s.err))
		})
	}
	all.Wait()
	timer := time.NewTimer(keepFollowed)
	defer timer.Stop()
	select {
	case <-w.dropped:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (k *Keeper) followTo(ctx context.Context, id string, to Node) (copiespb.StoreReply_Status, error) {
	f, err := k.parts.Store.FollowUpload(id)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	return k.sendAlong(ctx, to, f)
}

// Followed tells that an upload was committed as d. What Follow has sent of it is what Put will find.
func (k *Keeper) Followed(_ context.Context, id string, d oci.Digest) {
	k.holds.mark(d)
	k.follows.committed(id, d)
}

// Forget ends the sending of an upload that was cancelled.
func (k *Keeper) Forget(id string) {
	k.follows.mu.Lock()
	defer k.follows.mu.Unlock()
	if w := k.follows.uploads[id]; w != nil {
		w.cancel(errForgotten)
	}
}

// alongTo tells whether d came to a node as an upload that was sent along. It waits for the end of that.
func (k *Keeper) alongTo(ctx context.Context, d oci.Digest, to Node) (bool, error) {
	s := k.follows.to(d, to.ID)
	if s == nil {
		return false, nil
	}
	select {
	case <-s.done:
		return s.err == nil && taken(s.status), nil
	case <-ctx.Done():
		return false, fmt.Errorf("wait for %s on %s: %w", d, to.ID, context.Cause(ctx))
	}
}

// taken tells whether a status says that the blob is there.
func taken(s copiespb.StoreReply_Status) bool {
	return s == copiespb.StoreReply_STATUS_STORED || s == copiespb.StoreReply_STATUS_HAD
}
