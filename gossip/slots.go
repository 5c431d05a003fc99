package gossip

import (
	"net"
	"net/netip"
	"sync"
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

// slots are the room for incoming connections.
type slots struct {
	mu  sync.Mutex
	all share
	of  map[netip.Addr]*share
}

// share is what some connections have.
type share struct {
	streams int
	bytes   int64
}

func newSlots() *slots { return &slots{of: make(map[netip.Addr]*share)} }

// take gives a place to a connection; false when there is none.
func (s *slots) take(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all.streams >= maxStreams {
		return false
	}
	if from.IsValid() {
		one := s.of[from]
		if one == nil {
			one = &share{}
			s.of[from] = one
		}
		if one.streams >= maxStreamsOfOne {
			return false
		}
		one.streams++
	}
	s.all.streams++
	return true
}

// grow gives room for so many bytes to a connection that has a place; false when there is none.
func (s *slots) grow(from netip.Addr, bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.of[from]
	if s.all.bytes+bytes > maxFramesBytes || one != nil && one.bytes+bytes > maxFramesOfOne {
		return false
	}
	s.all.bytes += bytes
	if one != nil {
		one.bytes += bytes
	}
	return true
}

// free takes back the place of a connection, with the room that it had.
func (s *slots) free(from netip.Addr, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.streams--
	s.all.bytes -= bytes
	if one := s.of[from]; one != nil {
		one.streams--
		one.bytes -= bytes
		if one.streams == 0 {
			delete(s.of, from)
		}
	}
}

// addressOf is where a connection comes from; the zero Addr when that is no address of IP.
func addressOf(conn net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}
