package transfer

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

func limiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), maxMessage)
}

// arrived counts n bytes of a message, maxMessage at most, that came in unasked, and says how long who sent them is to
// wait for the answer, so that the limit holds. They count at once, wherever the wait ends: they are here.
func (e *Engine) arrived(n int64) time.Duration { return spend(e.download, n) }

// spend takes n bytes out of a limit and says how long it takes the limit to have room for them.
func spend(limit *rate.Limiter, n int64) time.Duration {
	now := time.Now()
	r := limit.ReserveN(now, int(min(n, maxMessage)))
	return r.DelayFrom(now)
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// received counts bytes that came from a peer in that zone.
func (e *Engine) received(n int64, zone string) {
	e.counters.receivedBytes.Add(n)
	if zone != e.cfg.Self.Zone {
		e.counters.crossZone.Add(n)
	}
}
