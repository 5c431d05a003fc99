package node

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// streamBacklog is how many streams of raft may wait for the catalog; a voter has two or three to each other.
	streamBacklog = 32
	// streamDial bounds opening one.
	streamDial = 2 * time.Second
)

// raftStreams are the connections at the peer door that are the catalog's: a net.Listener of what the door hands on.
type raftStreams struct {
	address net.Addr
	arrived chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newRaftStreams(address net.Addr) *raftStreams {
	return &raftStreams{address: address, arrived: make(chan net.Conn, streamBacklog), closed: make(chan struct{})}
}

// take takes a connection over from the door. It does not wait.
func (s *raftStreams) take(c net.Conn) {
	select {
	case <-s.closed:
		_ = c.Close()
		return
	default:
	}
	select {
	case s.arrived <- c:
	default:
		_ = c.Close() // raft tries again
	}
}

// Accept implements net.Listener.
func (s *raftStreams) Accept() (net.Conn, error) {
	select {
	case c := <-s.arrived:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. What waits is closed with it.
func (s *raftStreams) Close() error {
	s.once.Do(func() { close(s.closed) })
	for {
		select {
		case c := <-s.arrived:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (s *raftStreams) Addr() net.Addr { return s.address }

// dialStream opens a stream of raft to the peer door at an address.
func (n *Node) dialStream(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, streamDial)
	defer cancel()
	return n.engine.DialStream(ctx, address)
}
