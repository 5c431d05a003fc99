package registryapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// slowWindow is the time of which the bytes are counted, slowWindows how many of them in a row may be below the floor.
	slowWindow  = time.Minute
	slowWindows = 3
	// deadlineStep is how often the deadline of reads is moved: not for each of many small ones.
	deadlineStep = time.Second
	// silence is after how long without a byte a client is taken for one that may be gone.
	silence = 2 * time.Second
)

// errTooSlow and errTaken are why a body is not read to its end.
var (
	errTooSlow = errors.New("client sends too slowly")
	errTaken   = errors.New("another request goes on with the upload")
)

// A body is what a client sends, bounded in time: a client that sends nothing for a while, or too little for minutes,
// is cut off. Only the time that is spent waiting for the client counts.
type body struct {
	source  io.Reader
	control *http.ResponseController
	timeout time.Duration // longest silence
	floor   int64         // bytes in a slowWindow; 0: none

	spent time.Duration // waiting in the present window
	got   int64         // in it
	slow  int           // windows below the floor
	ended bool          // all of it was read

	mu      sync.Mutex
	moved   time.Time // when the deadline was set
	waiting time.Time // since when the client is waited for; zero when it is not
	taken   bool
}

func (h *Handler) body(w *response, r *http.Request) *body {
	return &body{
		source: r.Body, control: http.NewResponseController(w.ResponseWriter), timeout: h.cfg.ClientTimeout,
		floor: h.cfg.SlowestUpload, ended: r.ContentLength == 0,
	}
}

func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	begin := time.Now()
	if err := b.extend(begin); err != nil {
		return 0, err
	}
	n, err := b.source.Read(p)
	b.came()
	switch {
	case err == io.EOF:
		b.end()
	case err != nil:
		err = b.why(err)
	case b.tooSlow(int64(n), time.Since(begin)):
		err = fmt.Errorf("%w: less than %d bytes a minute", errTooSlow, b.floor)
	}
	return n, err
}

// extend gives the client its time anew.
func (b *body) extend(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken {
		return errTaken
	}
	b.waiting = now
	if now.Sub(b.moved) >= deadlineStep {
		b.moved = now
		_ = b.control.SetReadDeadline(now.Add(b.timeout)) // fails only where there are no deadlines
	}
	return nil
}

func (b *body) came() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = time.Time{}
}

// silent tells whether the client has been waited for a while.
func (b *body) silent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.waiting.IsZero() && time.Since(b.waiting) >= silence
}

// end lifts the deadline: the server goes on reading from the connection to see whether the client leaves, and would
// take a deadline for that.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	_ = b.control.SetReadDeadline(time.Time{})
}

// interrupt ends a Read that waits for the client, and all after it. It may be called by another goroutine.
func (b *body) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = true
	_ = b.control.SetReadDeadline(time.Unix(1, 0))
}

// why is the reason for err, of a Read.
func (b *body) why(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.taken:
		return errTaken
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: nothing for %v", errTooSlow, b.timeout)
	}
	return fmt.Errorf("read request: %w", err)
}

func (b *body) tooSlow(n int64, waited time.Duration) bool {
	b.got += n
	b.spent += waited
	if b.spent < slowWindow {
		return false
	}
	if float64(b.got) < float64(b.floor)*b.spent.Minutes() {
		b.slow++
	} else {
		b.slow = 0
	}
	b.got, b.spent = 0, 0
	return b.slow >= slowWindows
}
