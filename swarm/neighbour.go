package swarm

import (
	"math/bits"
	"time"

	"github.com/pullonce/pullonce/piece"
)

// A neighbour is what a Fetcher keeps about one peer.
type neighbour struct {
	id        Peer
	sameZone  bool
	load      int           // upload slots in use, as the peer said last
	asked     int           // requests on their way to it that are not overdue
	late      int           // requests that are overdue
	busyUntil time.Duration // not to be asked before
	refusals  int           // busy answers and failures in a row
	stalled   bool          // sent nothing in time, until it delivers
	usual     estimate
	told      int // how much of the log it has heard
}

// AddPeer makes p a neighbour that has these pieces (nil: none) and knows what this node
// has at this moment. For a peer that is known already only the info is taken over and the
// pieces are added. It answers false for a peer that lied and when there are MaxNeighbours.
func (f *Fetcher) AddPeer(p Peer, info PeerInfo, have *piece.Bitmap) bool {
	if _, lied := f.liars[p]; lied {
		return false
	}
	s, ok := f.slotOf[p]
	if !ok {
		if f.present == ^uint64(0) {
			return false
		}
		s = int8(bits.TrailingZeros64(^f.present))
		f.slotOf[p] = s
		f.present |= 1 << s
		f.slots[s] = neighbour{id: p, told: len(f.log)}
	}
	f.slots[s].sameZone = info.SameZone
	f.setSeeding(s, info.Seeding)
	if have != nil {
		for i := have.Next(0); i >= 0 && i < f.cfg.Pieces; i = have.Next(i + 1) {
			f.learn(s, int32(i))
		}
	}
	return true
}

// RemovePeer forgets a neighbour. What was asked of it is asked of others.
func (f *Fetcher) RemovePeer(p Peer) {
	s, ok := f.slotOf[p]
	if !ok {
		return
	}
	for i := len(f.flights) - 1; i >= 0; i-- {
		if f.flights[i].slot == s {
			f.land(i)
		}
	}
	delete(f.slotOf, p)
	bit := uint64(1) << s
	f.present &^= bit
	f.seeding &^= bit
	f.barren &^= bit
	for i, h := range f.holders {
		if h&bit != 0 {
			f.holders[i] = h &^ bit
			f.consider(int32(i))
		}
	}
}

// Peers is the number of neighbours.
func (f *Fetcher) Peers() int { return bits.OnesCount64(f.present) }

// HasPeer tells whether p is a neighbour.
func (f *Fetcher) HasPeer(p Peer) bool { _, ok := f.slotOf[p]; return ok }

// Lied tells whether p has sent a piece that did not match.
func (f *Fetcher) Lied(p Peer) bool { _, ok := f.liars[p]; return ok }

// Have says that p has these pieces now. Numbers that the blob does not have are ignored.
func (f *Fetcher) Have(p Peer, pieces []uint32) {
	s, ok := f.slotOf[p]
	if !ok {
		return
	}
	for _, i := range pieces {
		if int64(i) < int64(f.cfg.Pieces) {
			f.learn(s, int32(i))
		}
	}
}

// Held tells whether a neighbour has said to have a piece.
func (f *Fetcher) Held(piece int) bool { return f.holders[piece] != 0 }

// SetSeeding changes PeerInfo.Seeding of a neighbour.
func (f *Fetcher) SetSeeding(p Peer, seeding bool) {
	if s, ok := f.slotOf[p]; ok {
		f.setSeeding(s, seeding)
	}
}

func (f *Fetcher) setSeeding(s int8, seeding bool) {
	f.seeding &^= 1 << s
	if seeding {
		f.seeding |= 1 << s
	}
}

func (f *Fetcher) learn(s int8, piece int32) {
	bit := uint64(1) << s
	if f.holders[piece]&bit != 0 {
		return
	}
	f.holders[piece] |= bit
	f.consider(piece)
	f.barren &^= bit
}

func (f *Fetcher) unlearn(s int8, piece int32) {
	f.holders[piece] &^= 1 << s
	f.consider(piece)
}

// Load says how many upload slots p has in use, which comes on the back of its messages.
func (f *Fetcher) Load(p Peer, load int) {
	if s, ok := f.slotOf[p]; ok {
		f.slots[s].load = load
	}
}

// mostRetry bounds the pause after repeated refusals where pieces take less than twice as long.
const mostRetry = 250 * time.Millisecond

// Busy says that p refused a request for now. With retryAfter 0 the Fetcher chooses when
// to try it again.
func (f *Fetcher) Busy(p Peer, piece int, now, retryAfter time.Duration) {
	s, ok := f.slotOf[p]
	if !ok {
		return
	}
	if i := f.flightOf(piece, s); i >= 0 {
		f.land(i)
	}
	n := &f.slots[s]
	if retryAfter <= 0 {
		retryAfter = max(f.cfg.BusyRetry, f.usual.mean/4) << min(n.refusals, 3)
		retryAfter = min(retryAfter, max(mostRetry, f.usual.mean/2))
		retryAfter += time.Duration(f.rng.Int64N(int64(retryAfter)/2 + 1))
	}
	n.refusals++
	n.busyUntil = max(n.busyUntil, now+retryAfter)
}

// Progress says that bytes of a piece, asked of p or pushed by it, are arriving: it has not
// stalled. Drivers of links on which a piece can take longer than Config.StallAfter must call it.
func (f *Fetcher) Progress(p Peer, piece int, now time.Duration) {
	s, ok := f.slotOf[p]
	if !ok {
		return
	}
	for i := range f.flights {
		if fl := &f.flights[i]; fl.piece == int32(piece) && (fl.slot == s || fl.slot == unasked) {
			fl.touched = now
		}
	}
}

// Failed says that p did not deliver a piece. The piece may be asked of another at once;
// p itself is left alone for a while that grows with each failure in a row, and after a
// Mismatch for good.
func (f *Fetcher) Failed(p Peer, piece int, why Reason, now time.Duration) {
	s, ok := f.slotOf[p]
	if !ok {
		return
	}
	if i := f.flightOf(piece, s); i >= 0 {
		f.land(i)
	}
	n := &f.slots[s]
	switch why {
	case Mismatch:
		f.liars[p] = struct{}{}
		f.RemovePeer(p)
		return
	case Gone:
		f.unlearn(s, int32(piece))
		return
	case Stalled:
		n.stalled = true
	}
	n.busyUntil = max(n.busyUntil, now+(100*time.Millisecond)<<min(n.refusals, 6))
	n.refusals++
}

// Begin says when the node began: before Config.StallAfter from then on it is not starving.
func (f *Fetcher) Begin(now time.Duration) { f.lastArrival = now }

// Starving tells whether the node lacks pieces and none has arrived for Config.StallAfter:
// it should ask the owner for neighbours of any zone, saying that it has stalled.
func (f *Fetcher) Starving(now time.Duration) bool {
	return !f.has.Full() && now-f.lastArrival >= f.cfg.StallAfter
}

// firstMore and mostMore bound how long a node waits between two calls for more neighbours.
const (
	firstMore = 50 * time.Millisecond
	mostMore  = 10 * time.Second
)

// NeedsPeers tells whether to ask the owner for more neighbours now: the node lacks pieces
// and has few neighbours, or is starving. Once it has said so it does not say so again for a
// time that grows with each call.
func (f *Fetcher) NeedsPeers(now time.Duration) bool {
	if now < f.moreAt || f.has.Full() || f.Peers() >= f.cfg.FewPeers && !f.Starving(now) {
		return false
	}
	if f.moreAt == 0 { // the first neighbours are only just coming
		f.moreAt, f.moreWait = now+firstMore, firstMore
		return false
	}
	f.moreWait = min(2*f.moreWait, mostMore)
	f.moreAt = now + f.moreWait
	return true
}
