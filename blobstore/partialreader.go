package blobstore

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// A PartialReader reads a blob while it arrives, with a file offset of its own. It goes on across Commit and eviction.
// It belongs to one goroutine; Close it.
type PartialReader struct {
	partial *Partial
	file    *os.File // nil when the blob has no file
	at      *position
	close   sync.Once
}

// OpenReader is a reader of its own for one client. It keeps the Partial open until it is closed.
func (p *Partial) OpenReader() (*PartialReader, error) {
	r := &PartialReader{partial: p}
	if p.file != nil {
		f, err := reopen(p.file)
		if err != nil {
			return nil, fmt.Errorf("read partial blob %s: %w", p.list.Digest(), err)
		}
		r.file = f
	}
	p.store.retain(p)
	return r, nil
}

// Size is the blob's size in bytes.
func (r *PartialReader) Size() int64 { return r.partial.Size() }

// Partial is what r reads.
func (r *PartialReader) Partial() *Partial { return r.partial }

// Ready returns once the byte at off may be sent. The error is that of ctx or of Fail.
func (r *PartialReader) Ready(ctx context.Context, off int64) error {
	r.stand(off, r.Size())
	_, err := r.partial.readable(ctx, off, false)
	r.partial.move(r.at, off, false)
	return err
}

// WriteRange writes n bytes from off to w as they become readable: checked, and the last piece only when all pieces
// have been checked. What is on disk goes by io.Copy from the file, so that a w with ReadFrom has the kernel send it.
// Once the blob fails, so does WriteRange, before the last piece.
func (r *PartialReader) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	return r.writeRange(ctx, w, off, n, false)
}

// WriteRangeAhead is WriteRange for a client that asked for a range and checks by its own means: it also sends bytes
// that are there and not checked yet, those of the last piece too.
func (r *PartialReader) WriteRangeAhead(ctx context.Context, w io.Writer, off, n int64) error {
	return r.writeRange(ctx, w, off, n, true)
}

func (r *PartialReader) writeRange(ctx context.Context, w io.Writer, off, n int64, unchecked bool) error {
	p := r.partial
	if off < 0 || n < 0 || off+n > r.Size() {
		return fmt.Errorf("read partial blob %s: %d bytes at %d of %d", p.list.Digest(), n, off, r.Size())
	}
	if n == 0 && r.Size() > 0 {
		return nil
	}
	r.stand(off, off+n)
	defer r.leave()
	for end := off + n; ; {
		readable, err := p.readable(ctx, off, unchecked)
		if err != nil {
			return fmt.Errorf("read partial blob %s: %w", p.list.Digest(), err)
		}
		p.move(r.at, off, false)
		off, err = r.write(ctx, w, off, min(readable, end))
		if err != nil {
			return fmt.Errorf("read partial blob %s: %w", p.list.Digest(), err)
		}
		if off == end {
			return nil
		}
		p.move(r.at, off, true)
	}
}

// write sends some of the bytes from off to end and returns where it stopped. A piece that memory has let go since
// sends nothing, and the caller waits for it again.
func (r *PartialReader) write(ctx context.Context, w io.Writer, off, end int64) (int64, error) {
	if off == end {
		return off, nil
	}
	if kept := r.partial.pieceInMemory(off); kept != nil {
		n, err := w.Write(kept[:min(int64(len(kept)), end-off)])
		return off + int64(n), err
	}
	end = min(r.partial.diskEnd(off, end), off+copyStep)
	if end == off || r.file == nil || !r.partial.onDisk(off) {
		return off, nil
	}
	if err := copyRange(ctx, w, r.file, off, end-off); err != nil {
		if unreadable(err) {
			r.partial.doubt(int(off/r.partial.list.PieceSize()), int((end-1)/r.partial.list.PieceSize()))
		}
		return off, err
	}
	return end, nil
}

// stand notes that the bytes from off to end are needed from now on.
func (r *PartialReader) stand(off, end int64) {
	r.leave()
	r.at = r.partial.attach(off, end)
}

func (r *PartialReader) leave() {
	if r.at != nil {
		r.partial.detach(r.at)
		r.at = nil
	}
}

// Close gives the file and the hold on the Partial back. It may be called twice.
func (r *PartialReader) Close() error {
	var err error
	r.close.Do(func() {
		r.leave()
		if r.file != nil {
			err = r.file.Close()
		}
		r.partial.Close()
	})
	return err
}

// onDisk tells whether the byte at off is in the file.
func (p *Partial) onDisk(off int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := int(off / p.list.PieceSize())
	return p.whole || p.good.Has(i) && p.inWindow(i) == nil || p.ahead.end(off) > off
}

// doubt has pieces first to last checked again before their next use: reading failed in the middle of a copy by the
// kernel, where the cause cannot be told.
func (p *Partial) doubt(first, last int) {
	if e, err := p.store.entry(p.list.Digest()); err == nil {
		p.store.suspect(e)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole {
		return
	}
	for i := first; i <= last; i++ {
		if p.inWindow(i) == nil && p.good.Clear(i) {
			p.stale.Set(i)
			p.seen.Clear(i)
		}
	}
	p.wake()
}
