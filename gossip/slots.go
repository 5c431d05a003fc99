package gossip

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullonce/pullonce/access"
)

// Bounds of incoming connections, and of what they may send before it is known to be a member's.
const (
	maxStreams      = 256
	maxStreamsOfOne = 32 // from one address
	maxFrameBytes   = 8 << 20
	maxFramesBytes  = 64 << 20
	maxFramesOfOne  = 2 * maxFrameBytes
	maxPacketBytes  = 8 << 10
)

// grace is for how long who has just come is left alone, as long as others can go. A member speaks at once.
const grace = 100 * time.Millisecond

// slots are the room for incoming connections. When there is none, one that has not shown the key goes for the one that
// comes: strangers can hold every place, and would keep members out if they were left with them.
type slots struct {
	mu      sync.Mutex
	all     share
	of      map[netip.Addr]*share
	waiting []*place // that have not said yet what they want, in the order in which they came
	shut    bool
}

// share is what some connections have.
type share struct {
	streams int
	bytes   int64
}

// place is what one connection has.
type place struct {
	conn  net.Conn
	from  netip.Addr
	began time.Time
	said  atomic.Int64 // bytes

	bytes int64 // with gone guarded by slots.mu
	gone  bool
}

func newSlots() *slots { return &slots{of: make(map[netip.Addr]*share)} }

// take gives a place to a connection, in place of out if need be, which is to be closed; nil when there is none.
func (s *slots) take(conn net.Conn) (p, out *place) {
	p = &place{conn: conn, from: addressOf(conn), began: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return nil, nil
	}
	one := s.of[p.from]
	if near := one != nil && one.streams >= maxStreamsOfOne; near || s.all.streams >= maxStreams {
		out = s.weakest(p, func(other *place) bool { return !near || other.from == p.from })
		if out == nil {
			return nil, nil
		}
		s.remove(out)
	}
	s.all.streams++
	if p.from.IsValid() {
		if one = s.of[p.from]; one == nil {
			one = &share{}
			s.of[p.from] = one
		}
		one.streams++
	}
	s.waiting = append(s.waiting, p)
	return p, out
}

// grow gives a place room for so many bytes, in place of out if need be, which are to be closed; false when there is
// none.
func (s *slots) grow(p *place, bytes int64) (out []*place, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.gone {
		return nil, false
	}
	one := s.of[p.from]
	for {
		near := one != nil && one.bytes+bytes > maxFramesOfOne
		if !near && s.all.bytes+bytes <= maxFramesBytes {
			break
		}
		other := s.weakest(p, func(other *place) bool { return other.bytes > 0 && (!near || other.from == p.from) })
		if other == nil {
			return out, false
		}
		s.remove(other)
		out = append(out, other)
	}
	p.bytes += bytes
	s.all.bytes += bytes
	if one != nil {
		one.bytes += bytes
	}
	return out, true
}

// weakest is who has to go for p of those that fit and wait: of those that had their time who has said least, else, and
// among equals, the oldest. It is nil when there is none.
func (s *slots) weakest(p *place, fits func(*place) bool) *place {
	var found *place
	for _, other := range s.waiting {
		if other == p || !fits(other) {
			continue
		}
		if found != nil && time.Since(other.began) < grace {
			break // as all are that came later
		}
		if found == nil || other.said.Load() < found.said.Load() {
			found = other
		}
	}
	return found
}

// settle ends the waiting of a connection that keeps its place; false when it has lost it.
func (s *slots) settle(p *place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *place) bool { return other == p })
	return !p.gone
}

// leave takes back the place of a connection, with the room that it had. It may be called more than once.
func (s *slots) leave(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(p)
}

// remove is called under the lock.
func (s *slots) remove(p *place) {
	if p.gone {
		return
	}
	p.gone = true
	s.waiting = slices.DeleteFunc(s.waiting, func(other *place) bool { return other == p })
	s.all.streams--
	s.all.bytes -= p.bytes
	if one := s.of[p.from]; one != nil {
		one.streams--
		one.bytes -= p.bytes
		if one.streams == 0 {
			delete(s.of, p.from)
		}
	}
}

// close has no place given any more. It gives those who wait.
func (s *slots) close() []*place {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	return slices.Clone(s.waiting)
}

// addressOf is where a connection comes from, for counting; the zero Addr when that is no address of IP.
func addressOf(conn net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return access.Network(a.Addr())
}
