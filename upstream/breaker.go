package upstream

import (
	"sync"
	"time"
)

// A breaker stops requests to a host that failed several times in a row, so that clients get their answer at once
// instead of after a deadline. While it is open one request at a time may probe, after a wait that doubles each time.
type breaker struct {
	limit int           // failures in a row that open it
	wait  time.Duration // before the first probe

	mu       sync.Mutex
	failures int
	until    time.Time // when open: no probe before
	next     time.Duration
	probing  bool
}

// maxBreakerDoublings bounds the wait between probes at 16 times the first one.
const maxBreakerDoublings = 4

// allow tells whether a request may be sent. Every request that was allowed ends in done.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < b.limit {
		return true
	}
	if b.probing || time.Now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// A verdict is what a request says about the host.
type verdict int

const (
	healthy verdict = iota
	failing
	hanging // no byte in time, which has cost a client its patience already
	unknown // the asker went away
)

// hangWeight is as how many failures one that hangs counts.
const hangWeight = 3

// done records how an allowed request ended. It tells whether the breaker was opened or closed by that.
func (b *breaker) done(v verdict) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wasOpen := b.failures >= b.limit
	wasProbe := b.probing
	b.probing = false
	switch v {
	case healthy:
		b.failures = 0
		b.next = 0
		return false, wasOpen
	case failing, hanging:
		if wasOpen && !wasProbe {
			return false, false // sent before it opened
		}
		if b.failures++; v == hanging {
			b.failures += hangWeight - 1
		}
		if b.failures < b.limit {
			return false, false
		}
		b.extend()
		return !wasOpen, false
	}
	return false, false
}

func (b *breaker) extend() {
	switch {
	case b.next == 0:
		b.next = b.wait
	case b.next < b.wait<<maxBreakerDoublings:
		b.next *= 2
	}
	b.until = time.Now().Add(b.next)
}

// open tells whether requests are refused or only probed now.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= b.limit
}
