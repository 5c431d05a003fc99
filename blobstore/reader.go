package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// copyStep is how many bytes are handed to the kernel between two looks at the context.
const copyStep = 64 << 20

// checkAhead is how many pieces are checked while those before are sent.
const checkAhead = 8

// A Reader reads a whole blob with a file offset of its own. It belongs to one goroutine; Close it.
type Reader struct {
	blob *Blob
	file *os.File
}

// NewReader is a reader of its own for one client.
func (b *Blob) NewReader() (*Reader, error) {
	f, err := reopen(b.file)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", b.Digest(), err)
	}
	return &Reader{blob: b, file: f}, nil
}

// Size is the blob's size in bytes.
func (r *Reader) Size() int64 { return r.blob.size }

// Ready returns once the byte at off may be sent: it is there, and it is checked.
func (r *Reader) Ready(ctx context.Context, off int64) error {
	if r.blob.Checked() || r.blob.size == 0 {
		return nil
	}
	v := r.blob.store.verification(r.blob.entry)
	i := min(int(off/v.list.PieceSize()), v.list.Count()-1)
	if i == v.list.Count()-1 && off == 0 {
		return v.ensureAll(ctx, r.file)
	}
	return v.ensure(ctx, r.file, i)
}

// WriteRange writes n bytes from off to w. Bytes of a checked blob go by io.Copy from the file, so that a w with
// ReadFrom (an http.ResponseWriter, a TCP connection) has the kernel send them. Bytes that were not checked since the
// start are checked piece by piece beside the sending, a read from the start with the last piece held back until all
// others matched. A wrong piece is an *oci.MismatchError, sent in no part; the blob is partial from then on.
func (r *Reader) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if off < 0 || n < 0 || off+n > r.blob.size {
		return fmt.Errorf("read blob %s: %d bytes at %d of %d", r.blob.Digest(), n, off, r.blob.size)
	}
	var err error
	if r.blob.Checked() {
		err = copyRange(ctx, w, r.file, off, n)
	} else {
		err = r.writeChecking(ctx, w, off, n)
	}
	if err == nil {
		return nil
	}
	if unreadable(err) {
		r.blob.store.suspect(r.blob.entry)
	}
	return fmt.Errorf("read blob %s: %w", r.blob.Digest(), err)
}

// writeChecking checks the next pieces on all cores while those before are sent: one piece first, so that the first
// byte is not late, then more and more.
func (r *Reader) writeChecking(ctx context.Context, w io.Writer, off, n int64) error {
	v := r.blob.store.verification(r.blob.entry)
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	size, end, fromStart := v.list.PieceSize(), off+n, off == 0
	check := func(first, last int) <-chan error {
		done := make(chan error, 1)
		go func() {
			if err := v.ensureRange(ctx, r.file, first, last); err != nil || !fromStart || last < v.list.Count()-1 {
				done <- err
				return
			}
			done <- v.ensureAll(ctx, r.file)
		}()
		return done
	}
	first, final := int(off/size), int((end-1)/size)
	last := first
	done := check(first, last)
	for {
		if err := <-done; err != nil {
			return err
		}
		sendTo := min(int64(last+1)*size, end)
		if last == final {
			return copyRange(ctx, w, r.file, off, sendTo-off)
		}
		next := min(last+min(2*(last-first+1), checkAhead), final)
		done = check(last+1, next)
		if err := copyRange(ctx, w, r.file, off, sendTo-off); err != nil {
			cancel()
			<-done
			return err
		}
		first, last, off = last+1, next, sendTo
	}
}

// Close gives the file back.
func (r *Reader) Close() error { return r.file.Close() }

// copyRange copies n bytes of f from off to w. The file is handed over bare, as sendfile needs it.
func copyRange(ctx context.Context, w io.Writer, f *os.File, off, n int64) error {
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := min(n, copyStep)
		copied, err := io.CopyN(w, f, step)
		if err == io.EOF {
			err = fmt.Errorf("%d bytes missing at %d: %w", n-copied, off+copied, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		n -= copied
		off += copied
	}
	return nil
}

// unreadable tells whether err, of a copy from file to client, is about the file.
func unreadable(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.EUCLEAN) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// suspect has the next read of e check its bytes again: reading failed in the middle of a copy by the kernel, where
// the cause cannot be told.
func (s *Store) suspect(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.check = nil
}
