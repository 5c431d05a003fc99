package hub

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// unshaped is how much goes at once where no rate is set: small enough that bytes are counted while
// they go, large enough for sendfile.
const unshaped = 1 << 20

// lateness is how late a writer may come back and still get the time that it lost; after a longer
// pause the link counts as idle.
const lateness = 20 * time.Millisecond

// link is a line of limited rate: bytes go one after the other, each taking its time. Unlike a token
// bucket it saves nothing up while it is idle, so no transfer is faster than the rate.
type link struct {
	rate  int64 // bytes a second
	share int   // what one writer sends at once

	mu   sync.Mutex
	free time.Time // when the bytes that were let in so far have gone
}

func newLink(bytesPerSecond int64) *link {
	return &link{rate: bytesPerSecond, share: int(min(max(bytesPerSecond/200, 1<<10), unshaped))}
}

// reserve lets n bytes in and returns when they have gone.
func (l *link) reserve(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.free) > lateness {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return l.free
}

// wait blocks until n bytes have gone.
func (l *link) wait(ctx context.Context, n int) error {
	pause := time.Until(l.reserve(n))
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shaped tells whether the body is a blob's: counted, and kept to the link's rate.
func (a *answer) shaped() bool { return a.q.kind == Blob && a.q.method == http.MethodGet && a.body }

// links returns the rates that the body keeps to; either may be nil.
func (a *answer) links() [2]*link {
	var both [2]*link
	if a.shaped() {
		both[0] = a.hub.link.Load()
	}
	if a.body {
		both[1] = a.slow
	}
	return both
}

// burst is how many bytes may go at once.
func (a *answer) burst() int {
	n := unshaped
	for _, l := range a.links() {
		if l != nil {
			n = min(n, l.share)
		}
	}
	return n
}

// pace waits until n bytes may go.
func (a *answer) pace(n int) error {
	for _, l := range a.links() {
		if l == nil {
			continue
		}
		if err := l.wait(a.ctx, n); err != nil {
			return err
		}
	}
	return nil
}
