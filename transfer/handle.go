package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// A Handle is one client's interest in a blob that is being fetched, or that came in a moment ago. It belongs to one
// goroutine, but for Close.
type Handle struct {
	task   *task
	want   Want
	reader io.Closer
	write  func(ctx context.Context, w io.Writer, off, n int64) error
	size   int64 // that a client was told; 0 before
	once   sync.Once
}

// Size waits until the blob's size is known and gives it in bytes.
func (h *Handle) Size(ctx context.Context) (int64, error) {
	if err := h.task.await(ctx, h.task.listed); err != nil {
		return 0, err
	}
	h.task.mu.Lock()
	defer h.task.mu.Unlock()
	h.size = h.task.list.Size() // what a client was told must hold, whoever it came from
	return h.size, nil
}

// Repository is the one through which the blob is fetched.
func (h *Handle) Repository() oci.Repository { return h.task.repository() }

// Complete tells whether the whole blob is here.
func (h *Handle) Complete() bool { return h.task.isComplete() }

// Vouched waits until Repository has confirmed that it has the blob, and tells whether it has: false when the blob
// became whole without.
func (h *Handle) Vouched(ctx context.Context) (bool, error) {
	select {
	case <-h.task.vouched:
	case <-h.task.whole:
	case <-h.task.ended:
	case <-ctx.Done():
	}
	select {
	case <-h.task.vouched:
		return true, nil
	default:
		return false, h.task.await(ctx, h.task.whole)
	}
}

// Reads tells whether this node itself reads the blob from the upstream.
func (h *Handle) Reads() bool {
	h.task.mu.Lock()
	defer h.task.mu.Unlock()
	return h.task.source
}

// Near tells whether the byte at off is here, or will be soon because what comes before it nearly is.
func (h *Handle) Near(off int64) bool {
	t := h.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete() || t.small != nil {
		return true
	}
	if t.list == nil || t.partial == nil {
		return false
	}
	i := int(off / t.list.PieceSize())
	for back := i; back >= max(0, i-longLane); back-- {
		if t.partial.Has(back) {
			return true
		}
	}
	return i < longLane
}

// Ready waits until the byte at off can be read. It returns why the fetch failed, if it did.
func (h *Handle) Ready(ctx context.Context, off int64) error {
	for try := 0; ; try++ {
		err := h.ready(ctx, off)
		if !h.again(err, try) {
			return err
		}
	}
}

func (h *Handle) ready(ctx context.Context, off int64) error {
	t := h.task
	if err := t.await(ctx, t.listed); err != nil {
		return err
	}
	t.mu.Lock()
	partial, list := t.partial, t.list
	complete := t.complete()
	if !complete {
		t.want(off)
	}
	t.mu.Unlock()
	if h.size > 0 && list.Size() != h.size {
		return fmt.Errorf("%s has %d bytes and not %d as was said before: %w", t.digest, list.Size(), h.size, oci.ErrUnavailable)
	}
	if complete || off >= list.Size() {
		return nil
	}
	if partial == nil {
		return t.await(ctx, t.whole)
	}
	_, err := partial.Readable(ctx, off)
	return t.explain(ctx, err)
}

// WriteRange writes n bytes from off to w as they arrive. An *os.File reaches a w that can read from one. It returns
// early with the reason when the fetch fails; the last piece is not written before the whole digest holds. A fetch that
// failed because somebody lied is begun anew, with another issuer, as long as nothing has been written.
func (h *Handle) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	for try := 0; ; try++ {
		written, err := h.writeRange(ctx, w, off, n)
		if written > 0 || !h.again(err, try) {
			return err
		}
	}
}

// maxAnew is how often a fetch is begun anew because somebody lied.
const maxAnew = 2

// again begins anew after err when that may help.
func (h *Handle) again(err error, try int) bool {
	switch {
	case try >= maxAnew:
		return false
	case errors.Is(err, errOtherList):
		h.letGo()
		h.task.files.RLock() // until the other list is in its place
		defer h.task.files.RUnlock()
		return true
	default:
		return (asFalse(err) != nil || foreign(err) && h.Repository() != h.want.Repository) && h.anew() == nil
	}
}

// letGo closes what the bytes came from.
func (h *Handle) letGo() {
	if h.reader != nil {
		_ = h.reader.Close()
	}
	h.reader, h.write = nil, nil
}

// foreign tells whether err is about the repository through which a blob was fetched, and says nothing to who came
// through another one.
func foreign(err error) bool {
	return errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrNameUnknown) || errors.Is(err, errNobody) ||
		errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied)
}

// anew leaves a task that has failed for a new one.
func (h *Handle) anew() error {
	old := h.task
	t, err := old.e.task(h.want)
	if err != nil {
		return err
	}
	h.letGo()
	h.task = t
	old.wait(-1)
	return nil
}

func (h *Handle) writeRange(ctx context.Context, w io.Writer, off, n int64) (written int64, err error) {
	if err := h.ready(ctx, off); err != nil {
		return 0, err
	}
	if err := h.open(); err != nil {
		return 0, err
	}
	t := h.task
	t.mu.Lock()
	step := stepPieces * t.list.PieceSize()
	t.mu.Unlock()
	for n > written {
		at := off + written
		if !t.isComplete() {
			t.mu.Lock()
			t.want(at)
			t.mu.Unlock()
		}
		m := min(n-written, step-at%step)
		if t.isComplete() {
			m = n - written
		}
		err := h.write(ctx, w, at, m)
		if err != nil {
			return max(written, 1), t.explain(ctx, err)
		}
		written += m
	}
	return written, nil
}

// stepPieces is how many pieces are given to the client before the logic hears how far it has come.
const stepPieces = 4

// wantAhead is how many pieces from the client's place on go before all others.
const wantAhead = 8

// want tells the logic which piece the client waits for. The caller holds mu.
func (t *task) want(off int64) {
	i := int(off / t.list.PieceSize())
	t.fetcher.SetWanted(i, i+wantAhead)
	t.wake()
}

// open finds where the bytes come from: memory, the whole blob or the partial one.
func (h *Handle) open() error {
	if h.write != nil {
		return nil
	}
	t := h.task
	t.files.RLock() // so that nothing is closed while it is being opened
	defer t.files.RUnlock()
	t.mu.Lock()
	size, have := t.list.Size(), stock{t.partial, t.blob, t.small}
	t.mu.Unlock()
	if h.size > 0 && size != h.size {
		return fmt.Errorf("%s has %d bytes and not %d as was said before: %w", t.digest, size, h.size, oci.ErrUnavailable)
	}
	switch {
	case have.small != nil:
		h.write = func(_ context.Context, w io.Writer, off, n int64) error {
			_, err := w.Write(have.small[off : off+n])
			return err
		}
	case have.blob != nil:
		r, err := have.blob.NewReader()
		if err != nil {
			return err
		}
		h.reader, h.write = r, r.WriteRange
	case have.partial != nil:
		r, err := have.partial.OpenReader()
		if err != nil {
			return err
		}
		h.reader, h.write = r, r.WriteRange
	default:
		return h.openStored()
	}
	return nil
}

// openStored reads the blob that a task which is over has left in the store.
func (h *Handle) openStored() error {
	if err := h.task.failure(); err != nil {
		return err
	}
	blob, err := h.task.e.store.Open(h.task.digest)
	if errors.Is(err, oci.ErrNotFound) {
		// It was here a moment ago: that it is not here now says nothing about whether it exists.
		return fmt.Errorf("open %s after its fetch: %w", h.task.digest, oci.ErrUnavailable)
	}
	if err != nil {
		return err
	}
	r, err := blob.NewReader()
	if err != nil {
		_ = blob.Close()
		return err
	}
	h.reader, h.write = both{r, blob}, r.WriteRange
	return nil
}

// both closes a reader and the blob that it reads.
type both struct {
	r *blobstore.Reader
	b *blobstore.Blob
}

func (c both) Close() error { return errors.Join(c.r.Close(), c.b.Close()) }

// Close takes the interest back. It may be called twice.
func (h *Handle) Close() error {
	var err error
	h.once.Do(func() {
		if h.reader != nil {
			err = h.reader.Close()
		}
		h.task.wait(-1)
	})
	return err
}

// await waits for a step of the task, or gives the reason why it will not come.
func (t *task) await(ctx context.Context, step <-chan struct{}) error {
	select {
	case <-step:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.ended:
	}
	select {
	case <-step:
		return nil
	default:
	}
	if err := t.failure(); err != nil {
		return t.explain(ctx, err)
	}
	return fmt.Errorf("fetch of %s ended: %w", t.digest, oci.ErrUnavailable)
}

// explain gives the reason of a failure as a condition that a client's door knows, unless the client itself has left.
func (t *task) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if dropped(err) {
		switch cause := t.failure(); {
		case cause != nil:
			err = cause
		case errors.Is(err, blobstore.ErrDropped):
			return fmt.Errorf("fetch %s: %w", t.digest, errOtherList)
		}
	}
	switch {
	case dropped(err), errors.Is(err, errAbandoned), errors.Is(err, ErrStopped),
		asLost(err) != nil, asRedirect(err) != nil, asAgain(err) != nil:
		return fmt.Errorf("fetch %s: %w: %w", t.digest, oci.ErrUnavailable, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("fetch %s: %w: %v", t.digest, oci.ErrUnavailable, err) //nolint:errorlint // the fetch's context, not the client's
	}
	return err
}

// dropped tells whether err says no more than that the partial blob has ended.
func dropped(err error) bool {
	return errors.Is(err, blobstore.ErrDropped) || errors.Is(err, blobstore.ErrClosed)
}

// Done waits until the blob is whole here, or the fetch has failed.
func (h *Handle) Done(ctx context.Context) error { return h.task.await(ctx, h.task.whole) }
