package main

import (
	"context"
	"time"
)

// speedWindow is over how long speeds are taken.
const speedWindow = time.Second

// A gauge follows a count and its speed.
type gauge struct {
	value int64
	speed float64 // a second
	from  time.Time
	at    int64 // the value then
}

// note takes in what the count is now.
func (g *gauge) note(value int64, now time.Time) {
	g.value = value
	over := now.Sub(g.from)
	if g.speed == 0 || over >= speedWindow {
		g.speed = float64(value-g.at) / max(over.Seconds(), 0.001)
	}
	if over >= speedWindow {
		g.from, g.at = now, value
	}
}

// A link is the way to the upstream, with a count of the bytes that came over it.
type link struct {
	farm    *farm
	standIn *standIn // nil: the nodes' own counters
}

// crossed returns the bytes that have come over the link since the start. The stand-in counts what it has written to
// its sockets, headers included; with the real Docker Hub the nodes say what they have received of bodies.
func (l *link) crossed(ctx context.Context) int64 {
	if l.standIn != nil {
		return l.standIn.Stats().SocketBytes
	}
	var n int64
	for _, h := range l.farm.hosts {
		if s, err := h.status(ctx); err == nil {
			n += s.Upstream.BytesReceived
		}
	}
	return n
}
