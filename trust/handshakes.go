package trust

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// patience is for how long somebody who has begun a handshake is left alone although others wait. A member takes a few
// milliseconds.
const patience = time.Second

// errNoRoom is why a handshake had to go for another one.
var errNoRoom = errors.New("too many handshakes at once")

// handshakes bounds how many handshakes are done at once, so that many who connect and say little cost a bounded number
// of goroutines and buffers. When there is no room, who has said nothing yet has to go first: an outsider that holds all
// places by silence keeps no member out, as a member speaks at once. Who has spoken is given patience, so that a burst
// of members (a thousand nodes that start together) does not throw each other out; what is over is closed at once and
// dials again.
type handshakes struct {
	limit, perAddress int

	mu  sync.Mutex
	all []*shake // in the order in which they came
}

// A shake is one handshake that is being done.
type shake struct {
	from   netip.Addr
	began  time.Time
	cancel context.CancelCauseFunc
	spoke  bool // guarded by handshakes.mu: its first message was read
}

// enter takes a place for a connection from an address; not ok: there is none. cancel is called when the place has to be
// given to another one. Who has entered leaves.
func (h *handshakes) enter(from netip.Addr, cancel context.CancelCauseFunc) (s *shake, ok bool) {
	s = &shake{from: from, began: time.Now(), cancel: cancel}
	out, ok := h.place(s)
	if out != nil {
		out.cancel(errNoRoom)
	}
	return s, ok
}

// place puts s among the others, in place of out if need be.
func (h *handshakes) place(s *shake) (out *shake, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := 0
	for _, other := range h.all {
		if other.from == s.from {
			same++
		}
	}
	if crowded := same >= h.perAddress; crowded || len(h.all) >= h.limit {
		i := h.weakest(s, crowded)
		if i < 0 {
			return nil, false
		}
		out = h.all[i]
		h.all = slices.Delete(h.all, i, i+1)
	}
	h.all = append(h.all, s)
	return out, true
}

// weakest is the one that has to go for s, or -1: the oldest that has said nothing, else the oldest if it has had its
// time. near: only those from the same address.
func (h *handshakes) weakest(s *shake, near bool) int {
	oldest := -1
	for i, other := range h.all {
		if near && other.from != s.from {
			continue
		}
		if !other.spoke {
			return i
		}
		if oldest < 0 {
			oldest = i
		}
	}
	if oldest >= 0 && s.began.Sub(h.all[oldest].began) >= patience {
		return oldest
	}
	return -1
}

// heard notes that the other side has begun to speak TLS.
func (h *handshakes) heard(s *shake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.spoke = true
}

// leave gives the place back.
func (h *handshakes) leave(s *shake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.all, s); i >= 0 {
		h.all = slices.Delete(h.all, i, i+1)
	}
}

// count is how many are being done.
func (h *handshakes) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// addressOf is where a connection comes from, for counting: of IPv6 the network of 64 bits, since a host has all of it.
// What has no such address counts as one.
func addressOf(c net.Conn) netip.Addr {
	remote := c.RemoteAddr()
	if remote == nil {
		return netip.Addr{}
	}
	port, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}
	}
	a := port.Addr().Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	network, err := a.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}
