package swarm

import (
	"math/bits"
	"time"
)

// quietLoad is how many uploads a peer may have to be asked before busier ones that have
// rarer pieces.
const quietLoad = 2

// Next is what to ask of whom now, at most budget pieces. The driver sends all of it. The
// slice is valid until the next call. Cancels may have grown as well.
func (f *Fetcher) Next(now time.Duration, budget int) []Request {
	f.requests = f.requests[:0]
	f.expire(now)
	if f.wantedSince == never {
		f.wantedSince = now
	}
	if f.has.Full() || !f.room() {
		return nil
	}
	free := f.free(now)
	for len(f.requests) < budget && f.room() {
		r, ok := f.pick(free, now)
		if !ok {
			break
		}
		f.requests = append(f.requests, r)
		if s := f.slotOf[r.Peer]; f.slots[s].asked >= f.perPeer() {
			free &^= 1 << s
		}
	}
	return f.requests
}

// Cancels is which requests are no longer needed: another source was faster, or the peer
// has stalled. Answers to them are dropped. The slice is valid until the next call of any
// method.
func (f *Fetcher) Cancels() []Request {
	c := f.cancel
	f.cancel = f.cancel[:0]
	return c
}

// NextWake is when Next, Haves and NeedsPeers must be called again even if nothing happens
// until then; false: never. Called after them it is later than now.
func (f *Fetcher) NextWake(now time.Duration) (time.Duration, bool) {
	at := f.haveDue
	for i := range f.flights {
		fl := &f.flights[i]
		if !fl.overdue {
			at = min(at, f.lateAt(fl))
		}
		at = min(at, fl.touched+f.cfg.StallAfter)
	}
	if !f.has.Full() {
		more := max(f.lastArrival+f.cfg.StallAfter, f.moreAt)
		if f.Peers() < f.cfg.FewPeers {
			more = f.moreAt
		}
		if more > now { // else NeedsPeers says so now
			at = min(at, more)
		}
	}
	if !f.has.Full() && f.room() {
		for m := f.present; m != 0; m &= m - 1 {
			if b := f.slots[bits.TrailingZeros64(m)].busyUntil; b > now {
				at = min(at, b)
			}
		}
		if begAt := f.wantedSince + f.cfg.Patience; f.wantedSince != never && begAt > now && f.urgent(begAt) {
			at = min(at, begAt)
		}
		if f.idleSince != never && f.seeding != 0 && f.idleSince+f.cfg.Patience > now {
			at = min(at, f.idleSince+f.cfg.Patience)
		}
	}
	return at, at != never
}

// room tells whether another request may start.
func (f *Fetcher) room() bool {
	return len(f.flights)-f.overdue < f.cfg.Outstanding && len(f.flights) < 2*f.cfg.Outstanding
}

// perPeer is how many requests one peer gets at once: all, where there are few peers.
func (f *Fetcher) perPeer() int {
	n := max(bits.OnesCount64(f.present&^f.seeding), 1)
	return min(max(2, (2*f.cfg.Outstanding+n-1)/n), f.cfg.Outstanding)
}

// free is the peers that may be asked now.
func (f *Fetcher) free(now time.Duration) uint64 {
	free := f.present
	most := f.perPeer()
	for m := f.present; m != 0; m &= m - 1 {
		s := bits.TrailingZeros64(m)
		if n := &f.slots[s]; n.busyUntil > now || n.asked >= most {
			free &^= 1 << s
		}
	}
	return free
}

// pick chooses one request among free peers and starts it.
func (f *Fetcher) pick(free uint64, now time.Duration) (Request, bool) {
	peers := free &^ f.seeding
	if r, ok := f.second(peers, now); ok {
		return r, true
	}
	if piece, from, ok := f.next(peers); ok {
		f.idleSince = never
		return f.ask(piece, f.best(f.holders[piece]&from), now, flight{wanted: f.wanted.has(int(piece))}), true
	}
	if f.urgent(now) && free&f.seeding&f.holders[f.wanted.from] != 0 {
		return f.beg(int32(f.wanted.from), free, now), true
	}
	if f.idleSince == never {
		f.idleSince = now
	}
	if f.seeding == 0 || now-f.idleSince < f.cfg.Patience || f.Outstanding() > 0 {
		return Request{}, false
	}
	if piece, ok := f.rarest(free & f.seeding); ok {
		return f.beg(piece, free, now), true
	}
	return Request{}, false
}

// urgent tells whether the client has waited long for a piece that only seeding peers have.
func (f *Fetcher) urgent(now time.Duration) bool {
	i := f.wanted.from
	return f.seeding != 0 && i < f.wanted.to && f.wantedSince <= now && now-f.wantedSince >= f.cfg.Patience &&
		f.order.has(int32(i)) && f.holders[i]&^f.seeding == 0
}

// beg asks a seeding peer for what nobody else has.
func (f *Fetcher) beg(piece int32, free uint64, now time.Duration) Request {
	r := f.ask(piece, f.best(f.holders[piece]&free&f.seeding), now, flight{wanted: f.wanted.has(int(piece))})
	r.LastResort = true
	return r
}

// quiet is those of the peers that have few uploads: an uplink that stands idle is what
// costs a swarm most.
func (f *Fetcher) quiet(peers uint64) uint64 {
	var q uint64
	for m := peers; m != 0; m &= m - 1 {
		s := bits.TrailingZeros64(m)
		if n := &f.slots[s]; n.load+n.asked <= quietLoad {
			q |= 1 << s
		}
	}
	return q
}

// second finds another source for a piece all of whose flights are overdue.
func (f *Fetcher) second(free uint64, now time.Duration) (Request, bool) {
	if f.overdue == 0 {
		return Request{}, false
	}
	for i := range f.flights {
		if !f.flights[i].overdue {
			continue
		}
		piece := f.flights[i].piece
		if int(piece) >= f.known {
			continue
		}
		others := f.holders[piece] & free
		for j := range f.flights {
			if fl := &f.flights[j]; fl.piece == piece {
				if !fl.overdue {
					others = 0
				} else if fl.slot != unasked {
					others &^= 1 << fl.slot
				}
			}
		}
		if others != 0 {
			return f.ask(piece, f.best(others), now, flight{duplicate: true}), true
		}
	}
	return Request{}, false
}

// next is the piece to ask for and of whom: what the client waits for, else the rarest that a
// quiet peer has, else the rarest that any of the peers has.
func (f *Fetcher) next(peers uint64) (piece int32, from uint64, ok bool) {
	if f.wantedInFlight < f.cfg.WantedOutstanding {
		for i := f.wanted.from; i < f.wanted.to; i++ {
			if f.order.has(int32(i)) && f.holders[i]&peers != 0 {
				return int32(i), peers, true
			}
		}
	}
	if quiet := f.quiet(peers); quiet != peers {
		if piece, ok = f.rarest(quiet); ok {
			return piece, quiet, true
		}
	}
	piece, ok = f.rarest(peers)
	return piece, peers, ok
}

// rarest is a piece that the fewest neighbours have among those that these peers have.
func (f *Fetcher) rarest(peers uint64) (int32, bool) {
	if peers&^f.barren == 0 || f.order.count == 0 {
		return 0, false
	}
	for c := 1; c <= MaxNeighbours; c++ {
		b := f.order.buckets[c]
		if len(b) == 0 {
			continue
		}
		start := f.rng.IntN(len(b))
		for _, piece := range b[start:] {
			if f.holders[piece]&peers != 0 {
				return piece, true
			}
		}
		for _, piece := range b[:start] {
			if f.holders[piece]&peers != 0 {
				return piece, true
			}
		}
	}
	f.barren |= peers
	return 0, false
}

// best is the peer to ask among these: not slow, then with the lowest load, then of the
// own zone, then any.
func (f *Fetcher) best(peers uint64) int8 {
	var found int8
	least, same := int(^uint(0)>>1), 0
	for m := peers; m != 0; m &= m - 1 {
		s := bits.TrailingZeros64(m)
		n := &f.slots[s]
		cost := (n.load + n.asked) << 1
		if !n.sameZone {
			cost++
		}
		if f.slow(n) {
			cost += 1 << 20
		}
		switch {
		case cost < least:
			least, same, found = cost, 1, int8(s)
		case cost == least:
			same++
			if f.rng.IntN(same) == 0 {
				found = int8(s)
			}
		}
	}
	return found
}

// slow tells whether a peer takes over twice the usual time or has something overdue.
func (f *Fetcher) slow(n *neighbour) bool {
	return n.late > 0 || n.stalled || n.usual.n >= 2 && n.usual.mean > 2*f.usual.mean
}

func (f *Fetcher) ask(piece int32, s int8, now time.Duration, fl flight) Request {
	fl.piece, fl.slot, fl.sent, fl.touched = piece, s, now, now
	f.fly(fl)
	return Request{Peer: f.slots[s].id, Piece: int(piece), Duplicate: fl.duplicate}
}
