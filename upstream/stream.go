package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pullonce/pullonce/oci"
)

// minProgress is what must come between two cuts for the second to count as the first: a stream that is cut after
// every byte comes to an end.
const minProgress = 64 << 10

// A Stream is a Body that goes on after a cut, by asking for the rest from the exact byte where it was cut. It never
// gives a byte that the upstream did not send as the blob's. Close may be called while Read is on its way.
type Stream struct {
	client *Client
	ctx    context.Context //nolint:containedctx // in a struct since io.Reader has no room for it; it ends with Close
	cancel context.CancelFunc
	path   string
	digest oci.Digest
	at     int64 // the next byte
	end    int64 // exclusive; -1: not known
	size   int64 // of the whole blob; -1: not known
	skip   int64 // bytes of the body that come before at
	tries  int   // resumptions in a row without progress
	mark   int64 // at, when tries was last 0
	pause  *backoff.ExponentialBackOff
	err    error // what every further Read returns

	mu     sync.Mutex
	body   *Body // nil between a cut and the resumption
	closed bool
}

// Stream is Blob with resumption: Read goes on after a cut or a stall, with a wait that grows, and waits for a
// Retry-After of up to Config.StallTimeout. After Config.Resumes of them in a row without progress the last error is
// returned. An upstream that knows no ranges answers with the whole blob: what comes before off, or before the byte where
// the stream was cut, is thrown away by the next Read (Stats.Reread), and the stream goes to the blob's end, since the
// rest is on its way already: see Skip and End.
func (c *Client) Stream(ctx context.Context, path string, d oci.Digest, off, n int64) (*Stream, error) {
	body, err := c.Blob(ctx, path, d, off, n)
	if err != nil {
		return nil, err
	}
	s := &Stream{client: c, path: path, digest: d, at: off, end: -1, size: body.Size, mark: off, pause: c.pause()}
	if n >= 0 && body.Ranged {
		s.end = off + n
	}
	if body.Size >= 0 && (s.end < 0 || s.end > body.Size) {
		s.end = body.Size
	}
	if err := s.fit(body); err != nil {
		_ = body.Close()
		return nil, err
	}
	s.body = body
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s, nil
}

// End is the offset after the last byte that the stream gives, -1 when it is not known. It is the blob's end when the
// upstream does not know ranges and answers with the whole blob.
func (s *Stream) End() int64 { return s.end }

// Skip is how many bytes before the next one the upstream sends although they were not asked for. A caller to whom that
// is too much closes the stream without reading it.
func (s *Stream) Skip() int64 { return s.skip }

// Size is the size of the whole blob as the upstream says, -1 when it does not.
func (s *Stream) Size() int64 { return s.size }

// fit brings body to where the stream is.
func (s *Stream) fit(body *Body) error {
	if body.Size >= 0 && s.size >= 0 && body.Size != s.size {
		return fmt.Errorf("get blob %s of %s at %s: %w: size was %d and is %d", s.digest, s.path, s.client.cfg.Name,
			oci.ErrUnavailable, s.size, body.Size)
	}
	if s.skip = 0; body.Ranged || s.at == 0 {
		return nil
	}
	if s.end = body.Size; body.Size < 0 {
		s.end = -1
	}
	s.skip = s.at
	return nil
}

// discard throws away what comes before the byte where the stream is.
func (s *Stream) discard() error {
	if s.skip == 0 {
		return nil
	}
	s.client.log.Warn("upstream knows no ranges and sends what was not asked for",
		slog.String("digest", s.digest.String()), slog.Int64("bytes", s.skip))
	n, err := io.CopyN(io.Discard, s.body, s.skip)
	s.client.counters.reread.Add(n)
	s.skip -= n
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("get blob %s of %s at %s: %w: it ends at byte %d", s.digest, s.path, s.client.cfg.Name, oci.ErrUnavailable, n)
	}
	return err
}

// Read gives the next bytes. io.EOF comes after the last one that was asked for.
func (s *Stream) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.end >= 0 && s.at >= s.end {
			s.err = io.EOF
			break
		}
		if s.end >= 0 && int64(len(p)) > s.end-s.at {
			p = p[:s.end-s.at]
		}
		if err := s.discard(); err != nil {
			s.err = s.resume(err)
			continue
		}
		n, err := s.body.Read(p)
		s.advance(n)
		if n > 0 || err == nil {
			return n, nil
		}
		if err == io.EOF && s.end < 0 {
			s.err = io.EOF
			break
		}
		if err == io.EOF { // the answer was shorter than asked, which is allowed
			err = fmt.Errorf("get blob %s of %s at %s: %w: %w", s.digest, s.path, s.client.cfg.Name, oci.ErrUnavailable, io.ErrUnexpectedEOF)
		}
		s.err = s.resume(err)
	}
	return 0, s.err
}

func (s *Stream) advance(n int) {
	s.at += int64(n)
	if s.at-s.mark >= minProgress {
		s.mark, s.tries = s.at, 0
		s.pause.Reset()
	}
}

// resume replaces the body after err, or returns the error that stands in the way.
func (s *Stream) resume(err error) error {
	for {
		wait, ok := s.resumable(err)
		if !ok || s.tries >= s.client.cfg.Resumes {
			return err
		}
		s.tries++
		if !sleep(s.ctx, max(wait, s.pause.NextBackOff())) {
			return fmt.Errorf("get blob %s of %s at %s: %w", s.digest, s.path, s.client.cfg.Name, context.Cause(s.ctx))
		}
		if err = s.reopen(); err == nil {
			return nil
		}
	}
}

// resumable tells whether another answer may do better than err, and after what wait.
func (s *Stream) resumable(err error) (wait time.Duration, ok bool) {
	if limit, ok := errors.AsType[*oci.TooManyRequestsError](err); ok {
		return limit.RetryAfter, limit.RetryAfter > 0 && limit.RetryAfter <= s.client.cfg.StallTimeout
	}
	return 0, errors.Is(err, oci.ErrUnavailable) && !errors.Is(err, ErrNoRange)
}

// reopen asks for the rest.
func (s *Stream) reopen() error {
	_ = s.replace(nil)
	n := int64(-1)
	if s.end >= 0 {
		n = s.end - s.at
	}
	s.client.counters.resumes.Add(1)
	s.client.log.LogAttrs(s.ctx, slog.LevelDebug, "upstream blob is resumed",
		slog.String("digest", s.digest.String()), slog.Int64("offset", s.at), slog.Int("try", s.tries))
	body, err := s.client.Blob(s.ctx, s.path, s.digest, s.at, n)
	if err != nil {
		return err
	}
	if err := s.fit(body); err != nil {
		_ = body.Close()
		return err
	}
	return s.replace(body)
}

// replace closes the body and sets another, unless the stream was closed meanwhile.
func (s *Stream) replace(body *Body) error {
	s.mu.Lock()
	old, closed := s.body, s.closed
	if !closed {
		s.body = body
	}
	s.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	if closed && body != nil {
		_ = body.Close()
		return errClosed
	}
	return nil
}

// Close ends the stream. It may be called twice, and while Read is on its way.
func (s *Stream) Close() error {
	s.mu.Lock()
	body := s.body
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	if body != nil {
		_ = body.Close()
	}
	return nil
}
