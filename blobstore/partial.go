package blobstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// A Partial is a blob on its way: a sparse file at full size and the set of its checked pieces. There is one Partial
// of a digest in a process; OpenPartial and FindPartial count its users, and each calls Close. It may be shared by
// goroutines.
type Partial struct {
	store *Store
	list  *piece.List
	file  *os.File // nil when the blob has lived in memory from the start

	// gate is held shared over the write of a piece and its mark, and alone by what needs no write to be on its way
	// (Commit, Fail, Drop, unchecked writes). It is held over I/O on purpose; readers of the blob never take it.
	gate sync.RWMutex
	// saving lets one save at a time touch the state file.
	saving sync.Mutex

	mu       sync.Mutex
	good     *piece.Bitmap // checked in this process and readable now
	stale    *piece.Bitmap // on disk since an earlier run; they count once they are checked again
	seen     *piece.Bitmap // checked in this process at some time; full: the chain is closed
	ahead    extents       // unchecked bytes on disk
	meta     meta
	dirty    bool // good, ahead or meta differ from the state file
	lastUse  time.Time
	err      error         // why it ended; nil while it grows and when it is whole
	whole    bool          // committed
	window   *window       // nil while the disk takes the pieces
	changed  chan struct{} // closed at the next change; nil while nobody waits
	readers  map[*position]struct{}
	gone     bool // its files are no longer its own: committed, failed, dropped or closed
	users    int  // guarded by the store's mu
	released bool // guarded by the store's mu: the last user has closed it
}

// List is the blob's piece list. A list with the same id that was given to OpenPartial later has been merged into it.
func (p *Partial) List() *piece.List { return p.list }

// Size is the blob's size in bytes.
func (p *Partial) Size() int64 { return p.list.Size() }

// Bitmap is a copy of the set of pieces that can be read. One that an earlier run left on disk and that turns out
// wrong when it is first read leaves the set again, and Config.OnRot hears of it.
func (p *Partial) Bitmap() *piece.Bitmap {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.good.Clone()
	known := p.list.Known()
	for i := p.stale.Next(0); i >= 0 && i < known; i = p.stale.Next(i + 1) {
		have.Set(i)
	}
	return have
}

// Has tells whether piece i can be read.
func (p *Partial) Has(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has(i)
}

func (p *Partial) has(i int) bool {
	return p.good.Has(i) || p.stale.Has(i) && i < p.list.Known()
}

// Complete tells whether all pieces have been checked: the chain is closed and Commit may be called.
func (p *Partial) Complete() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Full() || p.good.Count()+p.stale.Count() == p.list.Count() && p.list.Known() == p.list.Count()
}

// WritePiece takes piece i, which the caller has checked against the list, in one part or several, and wakes who waits
// for it. A piece that is there already is taken for written. Calls for different pieces run at once. When the disk does not take the piece the
// blob goes on in memory; there a piece outside of Window is ErrWindow.
func (p *Partial) WritePiece(i int, parts ...[]byte) error {
	off, n := p.list.Bounds(i)
	if got := sum(parts); i < 0 || i >= p.list.Count() || got != n {
		return fmt.Errorf("write piece %d of %s: %d bytes", i, p.list.Digest(), got)
	}
	p.gate.RLock()
	defer p.gate.RUnlock()
	inMemory, done, err := p.beforeWrite(i)
	if err != nil || done {
		return err
	}
	if !inMemory {
		err := p.store.disk.writeAt(p.file, off, parts...)
		if err != nil && p.store.relieve(err, p.list.Digest()) {
			err = p.store.disk.writeAt(p.file, off, parts...)
		}
		if err == nil {
			p.mark(i)
			return nil
		}
		p.toMemory(err)
	}
	return p.keepInMemory(i, parts)
}

func sum(parts [][]byte) int64 {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	return int64(n)
}

func (p *Partial) beforeWrite(i int) (inMemory, done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.whole:
		return false, true, nil
	case p.err != nil:
		return false, false, fmt.Errorf("write piece %d of %s: %w", i, p.list.Digest(), p.err)
	}
	p.lastUse = time.Now()
	return p.window != nil, p.good.Has(i), nil
}

// mark notes that piece i is on disk and right.
func (p *Partial) mark(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.good.Set(i)
	p.seen.Set(i)
	p.stale.Clear(i)
	p.dirty = true
	p.wake()
}

// wake tells all waiters to look again. The caller holds mu.
func (p *Partial) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Changed is closed when a piece comes or goes, the window moves, or the blob ends.
func (p *Partial) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wait()
}

// wait is Changed for a caller that holds mu.
func (p *Partial) wait() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// ReadPiece reads piece i into buf and returns its length. oci.ErrNotFound: it is not here, or not any more. It serves
// after Commit, Fail and Drop what was there before.
func (p *Partial) ReadPiece(i int, buf []byte) (int, error) {
	off, n := p.list.Bounds(i)
	if i < 0 || i >= p.list.Count() || int64(len(buf)) < n {
		return 0, fmt.Errorf("read piece %d of %s into %d bytes", i, p.list.Digest(), len(buf))
	}
	p.mu.Lock()
	p.lastUse = time.Now()
	kept, good, stale := p.inWindow(i), p.good.Has(i), p.stale.Has(i) && i < p.list.Known()
	p.mu.Unlock()
	switch {
	case kept != nil:
		return copy(buf, kept), nil
	case stale:
		return int(n), p.settle(i, buf[:n])
	case !good:
		return 0, fmt.Errorf("piece %d of partial blob %s: %w", i, p.list.Digest(), oci.ErrNotFound)
	}
	if err := p.store.disk.readAt(p.file, buf[:n], off); err != nil {
		if !errors.Is(err, os.ErrClosed) {
			p.lose(i, err)
		}
		return 0, fmt.Errorf("read piece %d of %s: %w", i, p.list.Digest(), err)
	}
	return int(n), nil
}

// settle reads a piece that an earlier run left on disk into buf and checks it. One that is wrong leaves the set.
func (p *Partial) settle(i int, buf []byte) error {
	err := p.try(i, buf)
	p.judge(i, err)
	return err
}

func (p *Partial) try(i int, buf []byte) error {
	off, _ := p.list.Bounds(i)
	if err := p.store.disk.readAt(p.file, buf, off); err != nil {
		return err
	}
	return p.list.Check(i, buf)
}

// judge takes the result of try over.
func (p *Partial) judge(i int, err error) {
	if err == nil {
		p.mark(i)
		return
	}
	p.mu.Lock()
	still := p.stale.Has(i)
	p.mu.Unlock()
	if still && !errors.Is(err, os.ErrClosed) { // closed: the last user has left meanwhile
		p.lose(i, err)
	}
}

// settleAll checks all pieces that an earlier run left and that can be checked now.
func (p *Partial) settleAll() {
	for i := p.nextStale(0); i >= 0; i = p.nextStale(i + 1) {
		p.settleOne(i)
	}
}

// nextStale is the first piece at or after from that can be settled, or -1.
func (p *Partial) nextStale(from int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.stale.Next(from); i < p.list.Known() && !p.gone {
		return i
	}
	return -1
}

// lose takes a piece that the disk did not give back right out of the set, so that it is fetched anew.
func (p *Partial) lose(i int, cause error) {
	p.mu.Lock()
	had := !p.whole && (p.good.Clear(i) || p.stale.Clear(i))
	if had {
		p.stale.Clear(i)
		p.seen.Clear(i)
		p.dirty = true
		p.wake()
	}
	p.mu.Unlock()
	if !had {
		return
	}
	p.store.count.rotten.Add(1)
	p.store.log.Warn("piece of a partial blob is wrong", "digest", p.list.Digest().String(), "piece", i, "error", cause.Error())
	if p.store.cfg.OnRot != nil {
		p.store.cfg.OnRot(p.list.Digest(), i)
	}
}

// Readable blocks until the byte at off may be read and returns the end of the run of such bytes that it starts. The
// last piece may be read only when all pieces have been checked. The error is that of ctx or the one given to Fail.
func (p *Partial) Readable(ctx context.Context, off int64) (end int64, err error) {
	at := p.attach(off, p.list.Size())
	defer p.detach(at)
	return p.readable(ctx, off, false)
}

// ReadableAhead is Readable that also takes bytes which are there and not checked, for a client that reads a range and
// checks by its own means.
func (p *Partial) ReadableAhead(ctx context.Context, off int64) (end int64, err error) {
	at := p.attach(off, p.list.Size())
	defer p.detach(at)
	return p.readable(ctx, off, true)
}

func (p *Partial) readable(ctx context.Context, off int64, unchecked bool) (int64, error) {
	if off < 0 || off > p.list.Size() || off == p.list.Size() && off > 0 {
		return 0, fmt.Errorf("read partial blob %s: offset %d of %d", p.list.Digest(), off, p.list.Size())
	}
	for {
		end, settle, wait, err := p.look(off, unchecked)
		if err != nil || end >= 0 {
			return end, err
		}
		if settle >= 0 {
			p.settleOne(settle)
			continue
		}
		select {
		case <-wait:
		case <-p.listGrown(off):
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for byte %d of %s: %w", off, p.list.Digest(), ctx.Err())
		}
	}
}

func (p *Partial) settleOne(i int) {
	_, n := p.list.Bounds(i)
	buf, give := p.store.buffer(n)
	err := p.try(i, buf)
	give() // before others hear of it, who may check pieces themselves
	p.judge(i, err)
}

// listGrown lets a waiter look again when the list grows while a piece from an earlier run waits for it.
func (p *Partial) listGrown(off int64) <-chan struct{} {
	grown := p.list.Grown()
	i := int(off / p.list.PieceSize())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale.Next(0) < 0 {
		return nil
	}
	if known := p.list.Known(); p.stale.Has(i) && i < known { // grew since the last look
		now := make(chan struct{})
		close(now)
		return now
	}
	return grown
}

// look tells how far one may read from off. If not at all (end is -1), it names a piece that must be settled first or,
// if there is none (-1), gives a channel to wait on.
func (p *Partial) look(off int64, unchecked bool) (end int64, settle int, wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return -1, -1, nil, p.err
	}
	i := int(off / p.list.PieceSize())
	switch {
	case p.good.Has(i):
		if end := p.runEnd(i); end > off || end == p.list.Size() {
			return end, -1, nil, nil
		}
		// Only the last piece gets here. It waits for all others, those from an earlier run among them.
		if unchecked {
			return p.list.Size(), -1, nil, nil
		}
		if next := p.stale.Next(0); next >= 0 && next < p.list.Known() {
			return -1, next, nil, nil
		}
	case p.stale.Has(i) && i < p.list.Known():
		return -1, i, nil, nil
	case unchecked:
		if end := p.ahead.end(off); end > off {
			return end, -1, nil, nil
		}
	}
	return -1, -1, p.wait(), nil
}

// runEnd is the end of the run of pieces that can be read from piece i, which is good; the last piece is in it only
// when the chain is closed. The caller holds mu.
func (p *Partial) runEnd(i int) int64 {
	next := p.good.NextClear(i)
	if next < 0 {
		next = p.list.Count()
	}
	if next == p.list.Count() && !p.seen.Full() {
		next--
	}
	return min(int64(next)*p.list.PieceSize(), p.list.Size())
}

// File is the blob's file, or nil for one that has lived in memory from the start. Its offset is shared: use ReadAt,
// and only within what Readable gave; OpenReader has a file of its own.
func (p *Partial) File() *os.File { return p.file }

func (p *Partial) snapshotMeta() meta {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meta
}

func (p *Partial) changeMeta(change func(meta) meta) {
	p.mu.Lock()
	p.meta = change(p.meta)
	p.dirty = true
	p.mu.Unlock()
}
