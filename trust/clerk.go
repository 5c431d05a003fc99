package trust

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what others make this node do.
const (
	answersAtOnce = 16 // questions that are worked on
	failedPerSec  = 10 // refused joins that are told why
	failedBurst   = 20
	dialTimeout   = 3 * time.Second
)

// A clerk is what a Trust needs to deal with the catalog and with other nodes.
type clerk struct {
	parts atomic.Pointer[Parts] // nil before Attach
	dial  func(ctx context.Context, address string) (net.Conn, error)

	heard   atomic.Uint64 // the highest epoch that somebody has told
	due     atomic.Bool   // there is something new for sure
	kick    chan struct{} // wakes the loop that keeps the state
	turn    chan struct{} // taken by who sets the state, so that Changed hears of states in their order
	reading chan struct{} // taken by who reads the book for others
	answers chan struct{} // one for each question that is worked on
	counts  chan struct{} // taken by who counts a use of a token: nodes are to compete for it, not callers

	failed *rate.Limiter
	serves *rate.Limiter // certificates of registries
	tokens tokenList
	door   doorkeeper

	mu     sync.Mutex
	signer *signer // what was on disk when it was last looked at
	looked bool
	vain   string // why this node keeps apart from the farm
}

func newClerk() *clerk {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &clerk{
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
		kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), reading: make(chan struct{}, 1),
		answers: make(chan struct{}, answersAtOnce), counts: make(chan struct{}, 1),
		failed: rate.NewLimiter(failedPerSec, failedBurst), serves: rate.NewLimiter(servesPerSec, servesBurst),
		tokens: tokenList{turn: make(chan struct{}, 1)},
		door:   doorkeeper{arrived: make(chan net.Conn, doorQueue), shut: true},
	}
}

// Attach gives t what it needs of its node. It is called once, before Register and Run.
func (t *Trust) Attach(parts Parts) { t.clerk.parts.Store(&parts) }

var errNotAttached = errors.New("the node is still starting")

func (t *Trust) parts() (*Parts, error) {
	if p := t.clerk.parts.Load(); p != nil {
		return p, nil
	}
	return nil, errNotAttached
}

// look makes Run look at once at what the farm has agreed on.
func (c *clerk) look() {
	c.due.Store(true)
	c.wake()
}

func (c *clerk) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// take waits for a place in c.
func take(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Apart says why this node keeps apart from the farm although it has founded one, or "".
func (t *Trust) Apart() string {
	t.clerk.mu.Lock()
	defer t.clerk.mu.Unlock()
	return t.clerk.vain
}

func (t *Trust) setApart(why string) {
	t.clerk.mu.Lock()
	defer t.clerk.mu.Unlock()
	t.clerk.vain = why
}
