package swarm_test

import (
	"testing"
	"time"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

// world checks a Fetcher against what it was told, whatever the order of events.
type world struct {
	t     *testing.T
	f     *swarm.Fetcher
	n     int
	known int
	now   time.Duration
	have  map[swarm.Peer]*piece.Bitmap
	asked map[swarm.Request]bool
	lied  map[swarm.Peer]bool
	mine  *piece.Bitmap
}

func newWorld(t *testing.T, n int) *world {
	return &world{
		t: t, f: swarm.NewFetcher(swarm.Default(n), nil, seeded(3)), n: n,
		have: map[swarm.Peer]*piece.Bitmap{}, asked: map[swarm.Request]bool{},
		lied: map[swarm.Peer]bool{}, mine: piece.NewBitmap(n),
	}
}

func key(p swarm.Peer, i int) swarm.Request { return swarm.Request{Peer: p, Piece: i} }

// step does what two bytes say and checks what must always hold.
func (w *world) step(op, arg byte) {
	p, i := swarm.Peer(arg%7), int(arg)%w.n
	w.now += time.Duration(op/16) * ms
	switch op % 16 {
	case 0, 1:
		if !w.lied[p] && w.have[p] == nil {
			b := piece.NewBitmap(w.n)
			for j := i; j < w.n; j += int(op/16) + 1 {
				b.Set(j)
			}
			w.have[p] = b
			w.f.AddPeer(p, swarm.PeerInfo{SameZone: arg&1 == 0}, b)
		}
	case 2:
		w.f.RemovePeer(p)
		w.forget(p)
	case 3:
		if b := w.have[p]; b != nil {
			b.Set(i)
			w.f.Have(p, []uint32{uint32(i), 1 << 31})
		}
	case 4:
		w.known = max(w.known, i+1)
		w.f.SetKnown(i + 1)
	case 5:
		w.f.SetWanted(i, i+3)
	case 6:
		if w.f.Expect(i, w.now) == w.mine.Has(i) && w.mine.Has(i) {
			w.t.Errorf("Expect(%d) = true; the node has it", i)
		}
	case 7:
		w.f.Unexpect(i)
	case 8:
		w.f.Stored(i, w.now)
		w.mine.Set(i)
	case 9:
		w.end(arg, func(r swarm.Request) { w.f.Busy(r.Peer, r.Piece, w.now, 0) })
	case 10:
		w.end(arg, func(r swarm.Request) { w.f.Failed(r.Peer, r.Piece, swarm.Broken, w.now) })
	case 11:
		w.end(arg, func(r swarm.Request) {
			w.f.Failed(r.Peer, r.Piece, swarm.Mismatch, w.now)
			w.lied[r.Peer] = true
			w.forget(r.Peer)
		})
	case 12:
		w.f.Haves(w.now)
	default:
		w.end(arg, func(r swarm.Request) {
			w.f.Received(r.Peer, r.Piece, w.now)
			w.mine.Set(r.Piece)
		})
	}
	w.ask(int(arg % 12))
}

func (w *world) forget(p swarm.Peer) {
	delete(w.have, p)
	for r := range w.asked {
		if r.Peer == p {
			delete(w.asked, r)
		}
	}
}

// end takes one request out of those that are open.
func (w *world) end(arg byte, do func(swarm.Request)) {
	for i := range w.n {
		for p := range swarm.Peer(7) {
			if r := key((p+swarm.Peer(arg))%7, (i+int(arg))%w.n); w.asked[r] {
				delete(w.asked, r)
				do(r)
				return
			}
		}
	}
}

func (w *world) ask(budget int) {
	requests := w.f.Next(w.now, budget)
	if len(requests) > budget {
		w.t.Errorf("Next gave %d requests; the budget is %d", len(requests), budget)
	}
	for _, r := range requests {
		k := key(r.Peer, r.Piece)
		switch {
		case w.lied[r.Peer]:
			w.t.Errorf("%v asks a liar", r)
		case w.have[r.Peer] == nil || !w.have[r.Peer].Has(r.Piece):
			w.t.Errorf("%v asks a peer for what it does not have", r)
		case w.mine.Has(r.Piece):
			w.t.Errorf("%v asks for what the node has", r)
		case r.Piece >= w.known:
			w.t.Errorf("%v asks for what cannot be checked", r)
		case w.asked[k]:
			w.t.Errorf("%v asks again for what is on its way", r)
		}
		w.asked[k] = true
	}
	for _, c := range w.f.Cancels() {
		delete(w.asked, key(c.Peer, c.Piece))
	}
	if got := w.f.Outstanding(); got > 8+w.n { // pushes may come on top of what was asked for
		w.t.Errorf("Outstanding = %d", got)
	}
	if len(w.asked) > 16 {
		w.t.Errorf("%d requests are open; want at most twice Outstanding", len(w.asked))
	}
	if at, ok := w.f.NextWake(w.now); ok && at <= w.now && len(w.f.Haves(w.now)) == 0 {
		if at, ok = w.f.NextWake(w.now); ok && at <= w.now {
			w.t.Errorf("NextWake = %v at %v; want later", at, w.now)
		}
	}
	if w.f.Count() != w.mine.Count() {
		w.t.Errorf("Count = %d; want %d", w.f.Count(), w.mine.Count())
	}
}

// finish shows that whatever happened before, a peer that has everything completes the node.
func (w *world) finish() {
	w.f.SetKnown(w.n)
	w.known = w.n
	w.have[99] = piece.FullBitmap(w.n)
	w.f.AddPeer(99, swarm.PeerInfo{}, w.have[99])
	for range 100_000 {
		if w.f.Complete() {
			return
		}
		w.now += 5 * ms
		for r := range w.asked {
			delete(w.asked, r)
			if r.Peer == 99 {
				w.f.Received(r.Peer, r.Piece, w.now)
				w.mine.Set(r.Piece)
			} else {
				w.f.Failed(r.Peer, r.Piece, swarm.Broken, w.now)
			}
		}
		w.ask(16)
	}
	w.t.Errorf("not complete: %d of %d", w.f.Count(), w.n)
}

func FuzzFetcher(f *testing.F) {
	f.Add([]byte{0, 3, 4, 39, 0, 4, 13, 1, 14, 2, 9, 9, 250, 1, 11, 3})
	for seed := range uint64(20) {
		rng := seeded(seed)
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, events []byte) {
		w := newWorld(t, 40)
		for i := 0; i+1 < len(events) && !t.Failed(); i += 2 {
			w.step(events[i], events[i+1])
		}
		if !t.Failed() {
			w.finish()
		}
	})
}
