package blobstore

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A window keeps the pieces of a partial blob that cannot use the disk, while readers need them. Which pieces may come
// follows the slowest reader that still moves; one that takes nothing for long no longer holds the others up, and what
// it lacks then is fetched anew when it goes on.
type window struct {
	pieces map[int][]byte
	cause  error // why the disk is not used
}

// A position is where a reader stands.
type position struct {
	off, end int64
	moved    time.Time // when it last asked or took
	waiting  bool      // asks for a piece now
}

// toMemory has the blob go on in memory because of cause. What is on disk stays readable.
func (p *Partial) toMemory(cause error) {
	p.mu.Lock()
	first := p.window == nil
	if first {
		p.window = &window{pieces: make(map[int][]byte), cause: cause}
		p.wake()
	}
	p.mu.Unlock()
	if first {
		p.store.memoryPartials.Add(1)
		p.store.count.memory.Add(1)
		p.store.raise("streaming without caching", cause)
		p.store.wakeRun()
	}
}

// InMemory tells whether the blob goes on in memory, and why.
func (p *Partial) InMemory() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == nil {
		return false, nil
	}
	return true, p.window.cause
}

// Window is the range of pieces that may be written now: all, unless the blob lives in memory. There it follows the
// readers, and those pieces of it are to be fetched that Has denies; a piece before it may be written too, but need not
// be kept. Without readers it is the next pieces
// that were never there, and writing any piece lets the lowest one go: the blob is only passed on.
func (p *Partial) Window() (from, to int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == nil {
		return 0, p.list.Count()
	}
	return p.bounds()
}

// WaitWindow blocks until piece i may be written, or is here, or the blob has ended. An owner that reads the upstream in
// order calls it before each piece, and so goes no faster than its readers.
func (p *Partial) WaitWindow(ctx context.Context, i int) error {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			return p.err
		}
		if p.whole || p.has(i) || p.admits(i) {
			p.mu.Unlock()
			return nil
		}
		wait := p.wait()
		p.mu.Unlock()
		stalled := time.NewTimer(p.store.cfg.MemoryStall) // a reader counts as stalled without anyone waking us
		select {
		case <-wait:
		case <-stalled.C:
		case <-ctx.Done():
			stalled.Stop()
			return fmt.Errorf("wait for the window of %s: %w", p.list.Digest(), ctx.Err())
		}
		stalled.Stop()
	}
}

// admits tells whether piece i may be written: one after the window would take the room of those that readers wait for.
// One before it is welcome, since it moves the chain of an owner that hashes in order. The caller holds mu.
func (p *Partial) admits(i int) bool {
	if p.window == nil || len(p.readers) == 0 {
		return true
	}
	_, to := p.bounds()
	return i < to
}

// room is how many pieces the window keeps: this blob's share, and never less than two, without which nothing moves.
func (p *Partial) room() int {
	cfg := p.store.cfg
	share := cfg.MemoryTotal / max(1, p.store.memoryPartials.Load())
	return int(max(2, min(cfg.MemoryWindow, share)/p.list.PieceSize()))
}

// bounds are the pieces that may come: room of them, not counting those on disk, from the lowest one that a moving
// reader needs. The caller holds mu.
func (p *Partial) bounds() (from, to int) {
	from, limit := p.needed()
	to = from
	for left := p.room(); to < limit && left > 0; to++ {
		if !p.good.Has(to) || p.window.pieces[to] != nil {
			left--
		}
	}
	return from, to
}

// needed is the first piece that a moving reader needs, or any reader if none moves, and the piece after the last one
// that any of them needs.
func (p *Partial) needed() (from, limit int) {
	count := p.list.Count()
	if len(p.readers) == 0 {
		from = max(0, p.seen.NextClear(0))
		return from, count
	}
	moving, lowest := count, count
	for at := range p.readers {
		first := min(int(at.off/p.list.PieceSize()), count-1)
		if first == count-1 && !p.seen.Full() {
			first = max(0, p.seen.NextClear(0)) // the last piece waits for the chain
		}
		lowest = min(lowest, first)
		if at.waiting || time.Since(at.moved) < p.store.cfg.MemoryStall {
			moving = min(moving, first)
		}
		limit = max(limit, int((max(at.end, 1)-1)/p.list.PieceSize())+1)
	}
	if moving == count {
		moving = lowest
	}
	return moving, max(limit, moving+1)
}

// keepInMemory puts a copy of a checked piece into the window. One that all readers have passed is only noted when there
// is no room left.
func (p *Partial) keepInMemory(i int, parts [][]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.good.Has(i) {
		return nil
	}
	if !p.admits(i) {
		return ErrWindow
	}
	p.seen.Set(i)
	defer p.wake()
	from, to := p.bounds()
	if len(p.readers) > 0 && i < from && len(p.window.pieces) >= p.room() {
		return nil
	}
	for len(p.window.pieces) >= p.room() {
		p.release(from, to)
	}
	p.window.pieces[i] = slices.Concat(parts...)
	p.good.Set(i)
	return nil
}

// release lets one piece go: the lowest before the window, else the highest after it, else the lowest. The caller
// holds mu.
func (p *Partial) release(from, to int) {
	lowest, highest := p.list.Count(), -1
	for i := range p.window.pieces {
		lowest, highest = min(lowest, i), max(highest, i)
	}
	victim := lowest
	if lowest >= from && highest >= to {
		victim = highest
	}
	delete(p.window.pieces, victim)
	p.good.Clear(victim)
}

// inWindow is piece i when memory has it. The caller holds mu.
func (p *Partial) inWindow(i int) []byte {
	if p.window == nil {
		return nil
	}
	return p.window.pieces[i]
}

// attach notes a reader that needs the bytes from off to end.
func (p *Partial) attach(off, end int64) *position {
	at := &position{off: off, end: end, moved: time.Now(), waiting: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[at] = struct{}{}
	if p.window != nil {
		p.wake()
	}
	return at
}

// move notes where a reader stands now.
func (p *Partial) move(at *position, off int64, waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at.off, at.moved, at.waiting = off, time.Now(), waiting
	p.lastUse = at.moved
	if p.window != nil {
		p.wake()
	}
}

func (p *Partial) detach(at *position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, at)
	if p.window != nil {
		p.wake()
	}
}

// pieceInMemory is the rest of the piece at off when memory has it.
func (p *Partial) pieceInMemory(off int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := int(off / p.list.PieceSize())
	start, _ := p.list.Bounds(i)
	if kept := p.inWindow(i); kept != nil {
		return kept[off-start:]
	}
	return nil
}

// diskEnd cuts a run from off before the first piece of it that is in memory.
func (p *Partial) diskEnd(off, end int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.window == nil {
		return end
	}
	for i := int(off / p.list.PieceSize()); int64(i)*p.list.PieceSize() < end; i++ {
		if p.window.pieces[i] != nil {
			return max(off, int64(i)*p.list.PieceSize())
		}
	}
	return end
}
