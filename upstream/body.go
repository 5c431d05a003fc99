package upstream

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
)

const (
	// minFirstRead is what a first read gets when its caller came late: the byte may be in the socket already.
	minFirstRead = time.Second
)

// A reader is the body of an answer, with deadlines, the limit on the rate, and the slot that it holds until closed.
type reader struct {
	client  *Client
	ctx     context.Context //nolint:containedctx // in a struct since io.Reader has no room for it; it ends with Close
	cancel  context.CancelCauseFunc
	src     io.ReadCloser
	what    string
	want    int64 // bytes that must come in all; -1: not known
	firstBy time.Time
	release func()

	timer  *time.Timer
	n      int64         // bytes so far
	pause  time.Time     // no read before, for the limit's sake
	waited time.Duration // in reads, since the floor was last checked
	since  int64         // bytes in that time
	err    error         // what every further Read returns
	once   sync.Once
}

// Read gives what has come, straight from the socket when p is at least as long as the connection's read buffer. The
// error is io.EOF after all bytes and never before; an oci.ErrUnavailable when they stop; the context's own when that
// ended.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.err = r.hold(); r.err != nil {
		return 0, r.err
	}
	for _, l := range r.client.limits {
		p = p[:min(len(p), l.Burst())]
	}
	began := time.Now()
	r.arm(began)
	n, err := r.src.Read(p)
	r.timer.Stop()
	r.count(n, time.Since(began))
	r.err = r.judge(err)
	if n > 0 && r.err != io.EOF {
		return n, nil
	}
	return n, r.err
}

// hold waits until the limit has room again for what was read before. Paying afterwards gives each byte to the client
// as soon as it is here.
func (r *reader) hold() error {
	if r.pause.IsZero() {
		return nil
	}
	if wait := time.Until(r.pause); wait > 0 && !sleep(r.ctx, wait) {
		return r.judge(context.Cause(r.ctx))
	}
	return nil
}

func (r *reader) arm(now time.Time) {
	patience := r.client.cfg.StallTimeout
	if r.n == 0 {
		patience = min(patience, max(r.firstBy.Sub(now), minFirstRead))
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(patience, func() { r.cancel(errStalled) })
		return
	}
	r.timer.Reset(patience)
}

func (r *reader) count(n int, took time.Duration) {
	r.n += int64(n)
	r.since += int64(n)
	r.waited += took
	r.client.counters.bytes.Add(int64(n))
	now := time.Now()
	for _, l := range r.client.limits {
		if until := now.Add(l.ReserveN(now, n).DelayFrom(now)); until.After(r.pause) {
			r.pause = until
		}
	}
	if r.waited < 2*r.client.cfg.StallTimeout {
		return
	}
	if r.since < int64(r.waited.Seconds()*float64(r.client.cfg.MinBytesPerSecond)) {
		r.cancel(errStalled)
	}
	r.waited, r.since = 0, 0
}

// judge turns what the connection said into what the caller is told.
func (r *reader) judge(err error) error {
	switch {
	case err == nil && (r.want < 0 || r.n <= r.want):
		return nil
	case err == nil:
		return r.cut(fmt.Errorf("more than the %d bytes that were announced", r.want))
	case err == io.EOF && (r.want < 0 || r.n == r.want):
		return io.EOF
	}
	switch cause := context.Cause(r.ctx); {
	case cause == nil && err == io.EOF:
		return r.cut(io.ErrUnexpectedEOF)
	case cause == nil:
		return r.cut(err)
	case cause == errStalled: //nolint:errorlint // its own, not one that the caller was ended with
		return r.cut(errStalled)
	default: // the caller's own end, or Close
		return fmt.Errorf("%s at %s: %w", r.what, r.client.cfg.Name, cause)
	}
}

func (r *reader) cut(err error) error {
	r.client.counters.failures.Add(1)
	return fmt.Errorf("%s at %s: after %d bytes: %w: %w", r.what, r.client.cfg.Name, r.n, oci.ErrUnavailable, err)
}

// Close ends the answer. When not all of it was read the connection goes with it, which is how the upstream is told
// to stop. It may be called twice, and while Read is on its way.
func (r *reader) Close() error {
	r.once.Do(func() {
		r.cancel(errClosed)
		_ = r.src.Close()
		r.release()
	})
	return nil
}

// readAll takes a small answer whole and closes it. One that is longer than limit is oci.ErrTooLarge, one that is not
// here within the stall timeout an oci.ErrUnavailable.
func (r *reader) readAll(limit int64) ([]byte, error) {
	defer func() { _ = r.Close() }()
	if r.want > limit {
		return nil, fmt.Errorf("%s at %s: %w: %d bytes, the limit is %d", r.what, r.client.cfg.Name, oci.ErrTooLarge, r.want, limit)
	}
	whole := time.AfterFunc(r.client.cfg.StallTimeout, func() { r.cancel(errStalled) })
	defer whole.Stop()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s at %s: %w: the limit is %d bytes", r.what, r.client.cfg.Name, oci.ErrTooLarge, limit)
	}
	return raw, nil
}
