package hub

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is the response of one request on its way out: it counts blob bytes, keeps to the link's
// rate and does to the headers and the body what the faults in force say.
type answer struct {
	http.ResponseWriter
	hub *Hub
	ctx context.Context //nolint:containedctx // the request's: the methods of a ResponseWriter have no place for it
	q   request
	met []*fault

	started bool
	body    bool  // the response has a body of content, so body faults apply
	pos     int64 // offset in the blob of the next byte
	left    int64 // what a short length still lets through; <0: all
	slow    *link
}

func (h *Hub) newAnswer(w http.ResponseWriter, r *http.Request, q request) *answer {
	return &answer{ResponseWriter: w, hub: h, ctx: r.Context(), q: q, left: -1}
}

// before applies the faults that come before the headers and keeps the others for the body. It
// returns false when the request has been answered.
func (a *answer) before(r *http.Request, met []*fault) bool {
	a.met = append(a.met, met...)
	if f := first(met, Delay); f != nil {
		a.wait(f, f.Wait)
	}
	if f := first(met, Hang); f != nil {
		a.wait(f, 0)
	}
	if first(met, NoRange) != nil {
		r.Header.Del("Range")
	}
	if f := first(met, Slow); f != nil {
		a.slow = newLink(f.Rate)
	}
	f := first(met, Status)
	if f == nil {
		return true
	}
	if f.Wait > 0 {
		a.Header().Set("Retry-After", strconv.Itoa(int(f.Wait.Round(time.Second)/time.Second)))
	}
	writeError(a.ResponseWriter, f.Status, errorCode(f.Status), "fault on demand")
	return false
}

// wait blocks until the fault is cleared or d is over (0: never). When the client or the Hub goes
// away meanwhile, the request ends.
func (a *answer) wait(f *fault, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-f.cleared:
	case <-over:
	case <-a.ctx.Done():
		abort()
	}
}

// abort closes the connection without completing the response.
func abort() { panic(http.ErrAbortHandler) }

func (a *answer) WriteHeader(code int) {
	if !a.started && code >= 200 {
		a.started = true
		a.begin(code)
	}
	a.ResponseWriter.WriteHeader(code)
}

// begin reads from the headers where the body starts and changes them where a fault says so.
func (a *answer) begin(code int) {
	a.body = code == http.StatusOK || code == http.StatusPartialContent
	if code == http.StatusPartialContent {
		_, _ = fmt.Sscanf(a.Header().Get("Content-Range"), "bytes %d-", &a.pos)
	}
	if first(a.met, NoRange) != nil {
		a.Header().Del("Accept-Ranges")
	}
	f := first(a.met, WrongLength)
	if f == nil || !a.body {
		return
	}
	length, err := strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64)
	if err != nil {
		return
	}
	wrong := max(length+f.At, 0)
	a.Header().Set("Content-Length", strconv.FormatInt(wrong, 10))
	if wrong < length {
		a.left = wrong
	}
}

// finish writes what a length that is too long still needs.
func (a *answer) finish() {
	f := first(a.met, WrongLength)
	if f == nil || f.At <= 0 || !a.body || a.q.method == http.MethodHead {
		return
	}
	_, _ = a.Write([]byte(strings.Repeat("x", int(f.At))))
}

func (a *answer) Write(p []byte) (int, error) {
	if !a.started {
		a.WriteHeader(http.StatusOK)
	}
	total := 0
	for total < len(p) {
		n, err := a.writeSome(p[total:])
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeSome writes the part of p that comes before the next event, and at least one byte.
func (a *answer) writeSome(p []byte) (int, error) {
	if a.left == 0 {
		return len(p), nil
	}
	if a.left > 0 && int64(len(p)) > a.left {
		p = p[:a.left]
	}
	p = p[:a.untilEvent(len(p))]
	if err := a.pace(len(p)); err != nil {
		return 0, err
	}
	p = a.flipped(p)
	a.count(int64(len(p)))
	n, err := a.ResponseWriter.Write(p)
	a.wrote(int64(n), int64(len(p)))
	return n, err
}

// count counts bytes of a blob before they go, so that a client that has them finds them counted.
func (a *answer) count(n int64) {
	if a.shaped() {
		a.hub.stats.blobWritten(a.q.ref, n)
	}
}

// wrote moves on by the n bytes that went and takes off again what was counted too much.
func (a *answer) wrote(n, counted int64) {
	a.pos += n
	if a.left > 0 {
		a.left -= n
	}
	a.count(n - counted)
}

// untilEvent stops where a fault stops the body, else returns how many of n bytes may go at once.
func (a *answer) untilEvent(n int) int {
	if !a.body {
		return n
	}
	for _, f := range a.met {
		if f.Do != CutAt && f.Do != HangAt {
			continue
		}
		switch {
		case a.pos == f.At:
			a.flush()
			if f.Do == CutAt {
				abort()
			}
			a.wait(f, 0)
		case a.pos < f.At && f.At-a.pos < int64(n):
			n = int(f.At - a.pos)
		}
	}
	return min(n, a.burst())
}

func (a *answer) flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// flipped returns p, or a copy with the faulty byte in it.
func (a *answer) flipped(p []byte) []byte {
	for _, f := range a.met {
		if f.Do == FlipAt && a.body && f.At >= a.pos && f.At < a.pos+int64(len(p)) {
			p = append([]byte(nil), p...)
			p[f.At-a.pos] ^= 0xff
		}
	}
	return p
}

// ReadFrom lets the server send a file by sendfile where no fault has to see the bytes.
func (a *answer) ReadFrom(src io.Reader) (int64, error) {
	if !a.started {
		a.WriteHeader(http.StatusOK)
	}
	if a.touched() {
		return a.copyThrough(src)
	}
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	var total int64
	for limited.N > 0 {
		step := min(limited.N, int64(a.burst()))
		if err := a.pace(int(step)); err != nil {
			return total, err
		}
		a.count(step)
		n, err := io.Copy(a.ResponseWriter, &io.LimitedReader{R: limited.R, N: step})
		a.wrote(n, step)
		total += n
		limited.N -= n
		if err != nil || n < step {
			return total, err
		}
	}
	return total, nil
}

// touched tells whether a fault changes or stops the body.
func (a *answer) touched() bool {
	for _, f := range a.met {
		switch f.Do {
		case CutAt, HangAt, FlipAt, WrongLength:
			return true
		}
	}
	return false
}

func (a *answer) copyThrough(src io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{a}, struct{ io.Reader }{src}, make([]byte, 64<<10))
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
