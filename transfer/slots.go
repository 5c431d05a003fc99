package transfer

import (
	"sync"

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
// slot is free again once the bytes have left for the socket, which is when gRPC frees the buffer.
type sending struct {
	t    *task
	to   swarm.Peer
	size int64
}

// Get is part of mem.BufferPool.
func (s *sending) Get(n int) *[]byte { return s.t.e.buffer(int64(n)) }

// Put takes the buffer back and ends the sending. It never waits for the task.
func (s *sending) Put(b *[]byte) {
	s.t.e.recycle(b)
	s.end()
}

// end gives the slot and the room back.
func (s *sending) end() {
	s.t.e.sending.Add(-s.size)
	s.t.slots.put(s.to)
	s.t.wake()
}

// A bufferPool takes the engine's buffers back.
type bufferPool struct{ e *Engine }

func (p bufferPool) Get(n int) *[]byte { return p.e.buffer(int64(n)) }

func (p bufferPool) Put(b *[]byte) { p.e.recycle(b) }
