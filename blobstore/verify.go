package blobstore

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// A verification is the check of one whole blob, piece by piece, shared by all who read it. With a piece list the
// pieces are checked in any order; when the list was lost they are hashed in order into a new list, by whoever needs
// the next one.
type verification struct {
	store  *Store
	entry  *entry
	list   *piece.List
	hasher *piece.Hasher // nil when list is complete from the start
	turn   chan struct{} // held by who uses hasher

	doneAt atomic.Int64 // Unix nanoseconds; 0 until all pieces matched

	mu   sync.Mutex
	good *piece.Bitmap
	busy map[int]chan struct{} // being checked now
}

// verification is the present check of e; one that ended longer ago than the scrub interval is begun anew.
func (s *Store) verification(e *entry) *verification {
	s.loadList(e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.check != nil && !e.check.stale(s.cfg.ScrubInterval) {
		return e.check
	}
	e.check = s.newVerification(e, e.list, e.meta.Size)
	return e.check
}

// loadList is e's piece list, from memory or the index, or nil when it is lost.
func (s *Store) loadList(e *entry) *piece.List {
	e.mu.Lock()
	l, size := e.list, e.meta.Size
	e.mu.Unlock()
	if l != nil {
		return l
	}
	l = s.index.list(e.digest, size)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.list == nil {
		e.list = l
	}
	return e.list
}

func (s *Store) newVerification(e *entry, l *piece.List, size int64) *verification {
	v := &verification{store: s, entry: e, list: l, busy: make(map[int]chan struct{})}
	if l == nil {
		v.list = piece.Issue(e.digest, size, piece.SizeFor(size), s.cfg.Issuer)
		v.hasher = piece.NewHasher(v.list)
		v.turn = make(chan struct{}, 1)
	}
	v.good = piece.NewBitmap(v.list.Count())
	return v
}

// verified is the state of an entry whose bytes were all checked on their way in.
func (s *Store) verified(e *entry, l *piece.List) {
	v := s.newVerification(e, l, l.Size())
	v.good = piece.FullBitmap(l.Count())
	v.doneAt.Store(time.Now().UnixNano())
	e.mu.Lock()
	e.list, e.check = l, v
	e.mu.Unlock()
}

func (v *verification) stale(interval time.Duration) bool {
	at := v.doneAt.Load()
	return at != 0 && time.Now().UnixNano()-at >= int64(interval)
}

func (s *Store) checked(e *entry) bool {
	e.mu.Lock()
	v := e.check
	e.mu.Unlock()
	return v != nil && v.doneAt.Load() != 0 && !v.stale(s.cfg.ScrubInterval)
}

func (v *verification) has(i int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.good.Has(i)
}

// ensure returns once piece i of f is known to be right. A wrong piece turns the blob into a partial one that lacks it
// and is an *oci.MismatchError.
func (v *verification) ensure(ctx context.Context, f *os.File, i int) error {
	if v.hasher != nil {
		return v.ensureInOrder(ctx, f, i)
	}
	for {
		v.mu.Lock()
		if v.good.Has(i) {
			v.mu.Unlock()
			return nil
		}
		other := v.busy[i]
		if other == nil {
			break
		}
		v.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	mine := make(chan struct{})
	v.busy[i] = mine
	v.mu.Unlock()
	err := v.read(f, i, func(data []byte) error { return v.list.Check(i, data) })
	v.settle(i, err == nil)
	close(mine)
	return err
}

// ensureInOrder hashes on from the first piece that no one has hashed to piece i.
func (v *verification) ensureInOrder(ctx context.Context, f *os.File, i int) error {
	for !v.has(i) {
		select {
		case v.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := v.hashNext(f)
		<-v.turn
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) hashNext(f *os.File) error {
	next := v.hasher.Next()
	if next == v.list.Count() {
		if v.has(next - 1) {
			return nil
		}
		return &oci.MismatchError{Digest: v.list.Digest(), Piece: -1} // found by another reader
	}
	err := v.read(f, next, v.hasher.Piece)
	if err == nil {
		v.settle(next, true)
	}
	return err
}

// read reads piece i and has it checked. Bytes that cannot be read are as wrong as others.
func (v *verification) read(f *os.File, i int, check func([]byte) error) error {
	off, n := v.list.Bounds(i)
	data, give := v.store.buffer(n)
	cause := v.store.disk.readAt(f, data, off)
	err := cause
	if err == nil {
		err = check(data)
	}
	give() // before others hear of it, who may check pieces themselves
	if err == nil || errors.Is(err, os.ErrClosed) {
		return err
	}
	v.store.rot(v, i, cause)
	bad := &oci.MismatchError{Digest: v.list.Digest(), Piece: i}
	if v.hasher != nil {
		bad.Piece = -1
	}
	return bad
}

func (v *verification) settle(i int, good bool) {
	v.mu.Lock()
	delete(v.busy, i)
	if good {
		v.good.Set(i)
	}
	full := v.good.Full()
	v.mu.Unlock()
	if !full || !v.doneAt.CompareAndSwap(0, time.Now().UnixNano()) {
		return
	}
	if v.hasher != nil {
		v.store.index.putList(v.list)
		v.entry.mu.Lock()
		v.entry.list = v.list
		v.entry.mu.Unlock()
	}
}

// ensureRange checks pieces first to last on all cores.
func (v *verification) ensureRange(ctx context.Context, f *os.File, first, last int) error {
	if first == last || v.hasher != nil {
		return v.ensure(ctx, f, last)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := first; i <= last; i++ {
		g.Go(func() error { return v.ensure(ctx, f, i) })
	}
	return g.Wait()
}

// ensureAll checks every piece that is not checked yet.
func (v *verification) ensureAll(ctx context.Context, f *os.File) error {
	return v.ensureRange(ctx, f, 0, v.list.Count()-1)
}
