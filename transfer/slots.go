package transfer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	grpcpeer "google.golang.org/grpc/peer"

	"github.com/pullonce/pullonce/swarm"
)

// A slotTray is where upload slots are put by gRPC's writer when a piece has left for the socket, to be given back by
// who holds the task's lock: the writer serves all swarms and waits for none of them.
type slotTray struct {
	mu    sync.Mutex
	free  []swarm.Peer
	spare []swarm.Peer // what free was before; its place in memory is used again
}

// put notes that a piece for p has been sent.
func (s *slotTray) put(p swarm.Peer) {
	s.mu.Lock()
	s.free = append(s.free, p)
	s.mu.Unlock()
}

// empty gives the slots back. The caller holds the task's lock.
func (s *slotTray) empty(uploads *swarm.Uploads) {
	s.mu.Lock()
	free := s.free
	s.free, s.spare = s.spare[:0], free
	s.mu.Unlock()
	if uploads == nil {
		return
	}
	for _, p := range free {
		uploads.Done(p)
	}
}

// A sending is a piece on its way to a peer that has asked for it. It is the pool of the piece's buffer, so that the
// slot is free again once the bytes have left for the socket, which is when gRPC frees the buffer. Of a connection that
// has died it frees not all: the end of the connection ends the sendings over it, too.
type sending struct {
	t     *task
	to    swarm.Peer
	size  int64
	over  *underway // the sendings of the same connection; nil when that is not known
	since time.Time
	ended atomic.Bool
}

// Get is part of mem.BufferPool.
func (s *sending) Get(n int) *[]byte { return s.t.e.buffer(int64(n)) }

// Put takes the buffer back and ends the sending. It never waits for the task.
func (s *sending) Put(b *[]byte) {
	s.t.e.recycle(b)
	s.end()
}

// end gives the slot and the room back, once.
func (s *sending) end() {
	if s.ended.Swap(true) {
		return
	}
	if s.over != nil {
		s.over.remove(s)
	}
	s.t.e.sending.Add(-s.size)
	s.t.slots.put(s.to)
	s.t.wake()
}

// stuckAfter is how long a piece may be on its way before its slot is taken back: the bytes of a call that was cancelled
// just as its answer was queued are never freed.
const stuckAfter = 2 * time.Minute

// underway are the sendings over one connection from a peer.
type underway struct {
	mu       sync.Mutex
	sendings map[*sending]struct{}
	closed   bool
}

// underwayOf are the sendings over the connection of a call; nil when the engine did not open its door to it.
func underwayOf(ctx context.Context) *underway {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil
	}
	if c, ok := p.AuthInfo.(caller); ok {
		return c.underway
	}
	return nil
}

// add puts a sending on the connection, and ends it when that has ended already. The caller holds no lock.
func (u *underway) add(s *sending) {
	u.mu.Lock()
	if u.sendings == nil {
		u.sendings = make(map[*sending]struct{})
	}
	var over []*sending
	for old := range u.sendings {
		if s.since.Sub(old.since) > stuckAfter {
			over = append(over, old)
		}
	}
	u.sendings[s] = struct{}{}
	if u.closed {
		over = append(over, s)
	}
	u.mu.Unlock()
	for _, old := range over {
		old.end()
	}
}

func (u *underway) remove(s *sending) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sendings, s)
}

// close ends what is on its way, now that the connection has ended.
func (u *underway) close() {
	u.mu.Lock()
	u.closed = true
	over := make([]*sending, 0, len(u.sendings))
	for s := range u.sendings {
		over = append(over, s)
	}
	u.mu.Unlock()
	for _, s := range over {
		s.end()
	}
}

// A bufferPool takes the engine's buffers back.
type bufferPool struct{ e *Engine }

func (p bufferPool) Get(n int) *[]byte { return p.e.buffer(int64(n)) }

func (p bufferPool) Put(b *[]byte) { p.e.recycle(b) }
