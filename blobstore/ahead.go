package blobstore

import (
	"cmp"
	"fmt"
	"slices"
)

// An extents is a set of byte ranges, sorted and apart from each other.
type extents []extent

type extent struct{ from, to int64 }

// add puts the bytes from to to in.
func (e extents) add(from, to int64) extents {
	if from >= to {
		return e
	}
	first, _ := slices.BinarySearchFunc(e, from, func(x extent, at int64) int { return cmp.Compare(x.to, at) })
	last := first
	for last < len(e) && e[last].from <= to {
		from, to = min(from, e[last].from), max(to, e[last].to)
		last++
	}
	return slices.Replace(e, first, last, extent{from, to})
}

// end is the end of the range that has the byte at off, or off itself when it is in none.
func (e extents) end(off int64) int64 {
	i, _ := slices.BinarySearchFunc(e, off, func(x extent, at int64) int { return cmp.Compare(x.to, at+1) })
	if i < len(e) && e[i].from <= off {
		return e[i].to
	}
	return off
}

// WriteAhead keeps bytes that arrived ahead of the chain and cannot be checked yet, so that they need not be fetched
// again. They count as no piece and never touch one that was checked. ErrWindow: the blob lives in memory, where such
// bytes are not kept.
func (p *Partial) WriteAhead(off int64, data []byte) error {
	end := off + int64(len(data))
	if off < 0 || end > p.list.Size() {
		return fmt.Errorf("write ahead in %s: bytes %d to %d of %d", p.list.Digest(), off, end, p.list.Size())
	}
	// Alone at the gate: no checked piece is written between the look at what is good and the write.
	p.gate.Lock()
	defer p.gate.Unlock()
	for at := off; at < end; {
		i := int(at / p.list.PieceSize())
		start, n := p.list.Bounds(i)
		to := min(start+n, end)
		if err := p.writeAhead(i, at, data[at-off:to-off]); err != nil {
			return err
		}
		at = to
	}
	return nil
}

func (p *Partial) writeAhead(i int, at int64, data []byte) error {
	p.mu.Lock()
	skip, inMemory, err := p.whole || p.good.Has(i) || p.stale.Has(i), p.window != nil, p.err
	p.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("write ahead in %s: %w", p.list.Digest(), err)
	case skip:
		return nil
	case inMemory:
		return ErrWindow
	}
	if err := p.store.disk.writeAt(p.file, at, data); err != nil {
		p.toMemory(err)
		return ErrWindow
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead = p.ahead.add(at, at+int64(len(data)))
	p.dirty = true
	p.wake()
	return nil
}

// AheadHas tells whether all n bytes from off are here, checked or not.
func (p *Partial) AheadHas(off, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.aheadHas(off, n)
}

func (p *Partial) aheadHas(off, n int64) bool {
	for end := off + n; off < end; {
		i := int(off / p.list.PieceSize())
		next := p.ahead.end(off)
		if start, length := p.list.Bounds(i); p.good.Has(i) && p.inWindow(i) == nil {
			next = max(next, start+length)
		}
		if next == off {
			return false
		}
		off = next
	}
	return true
}

// ReadAhead reads len(buf) bytes from off, checked or not, when AheadHas says that they are here; the caller must check
// them. It returns false when they are not.
func (p *Partial) ReadAhead(off int64, buf []byte) (bool, error) {
	if p.file == nil || off < 0 || off+int64(len(buf)) > p.list.Size() || !p.AheadHas(off, int64(len(buf))) {
		return false, nil
	}
	if err := p.store.disk.readAt(p.file, buf, off); err != nil {
		return false, fmt.Errorf("read ahead in %s: %w", p.list.Digest(), err)
	}
	return true, nil
}

// DropAhead forgets unchecked bytes that turned out wrong.
func (p *Partial) DropAhead(off, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left extents
	for _, x := range p.ahead {
		left = left.add(x.from, min(x.to, off))
		left = left.add(max(x.from, off+n), x.to)
	}
	p.ahead, p.dirty = left, true
}
