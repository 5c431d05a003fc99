package access

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

const (
	// firstDelay is how long the next try waits after a first failed login; it doubles with each, up to maxDelay.
	firstDelay = 250 * time.Millisecond
	maxDelay   = 4 * time.Second
	// maxWait is how long a try waits behind others. It leaves a door time for its answer.
	maxWait = 6 * time.Second
	// failureMemory is for how long a failed login is held against its user and address.
	failureMemory = 15 * time.Minute
)

// A TooManyLoginsError says that more logins are under way, or have failed, than are checked at once.
type TooManyLoginsError struct{ RetryAfter time.Duration }

func (e *TooManyLoginsError) Error() string {
	return fmt.Sprintf("too many logins at once, or failed ones: try again in %v", e.RetryAfter)
}

// slow makes logins wait that follow failed ones of the same user from the same address. Others do not wait for them:
// nobody can lock out a user from elsewhere.
type slow struct{ failed *table[attempt, failures] }

type attempt struct {
	user Key
	from netip.Addr
}

type failures struct {
	count int
	next  time.Time // when the next try may be made
}

func newSlow(limit int) slow { return slow{newTable[attempt, failures](limit)} }

// turn waits until a may try. The error is that of ctx, or a TooManyLoginsError.
func (s slow) turn(ctx context.Context, a attempt) error {
	now := time.Now()
	f, ok := s.failed.get(a, now)
	if !ok {
		return nil
	}
	wait := time.Duration(0)
	s.failed.update(a, now, func(old failures, ok bool) (failures, time.Time) {
		if !ok {
			old = f
		}
		if wait = max(0, old.next.Sub(now)); wait <= maxWait {
			old.next = now.Add(wait + delayAfter(old.count))
		}
		return old, now.Add(failureMemory)
	})
	if wait > maxWait {
		return &TooManyLoginsError{RetryAfter: wait}
	}
	return sleep(ctx, wait)
}

// failedAgain notes a failed login.
func (s slow) failedAgain(a attempt) {
	now := time.Now()
	s.failed.update(a, now, func(old failures, _ bool) (failures, time.Time) {
		old.count++
		if next := now.Add(delayAfter(old.count)); next.After(old.next) {
			old.next = next
		}
		return old, now.Add(failureMemory)
	})
}

// delayAfter is the time between two tries after so many failed ones.
func delayAfter(count int) time.Duration {
	if count < 1 {
		return 0
	}
	return min(maxDelay, firstDelay<<min(count-1, 10))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Network is what counts as one address: one of IPv6 alone is given away by the million.
func Network(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
