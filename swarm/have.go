package swarm

import (
	"math/bits"
	"time"
)

// fewHave is how many neighbours may have a piece for it to be told at once.
const fewHave = 2

// A Batch is what one neighbour is to hear: this node has these pieces.
type Batch struct {
	Peer   Peer
	Pieces []uint32
}

// tell notes a new piece for the neighbours.
func (f *Fetcher) tell(piece int32, now time.Duration) {
	f.log = append(f.log, piece)
	wait := f.cfg.HaveEvery
	if bits.OnesCount64(f.holders[piece]) <= fewHave {
		wait = 0
	}
	f.haveDue = min(f.haveDue, now+wait)
}

// Haves is the batches that are due, none when it is not yet time. Nobody hears of a
// piece that it is known to have. The result is valid until the next call of any method.
func (f *Fetcher) Haves(now time.Duration) []Batch {
	f.batches, f.told = f.batches[:0], f.told[:0]
	if now < f.haveDue {
		return nil
	}
	f.haveDue = never
	for m := f.present; m != 0; m &= m - 1 {
		s := int8(bits.TrailingZeros64(m))
		if from := len(f.told); f.unsaid(s) {
			f.batches = append(f.batches, Batch{f.slots[s].id, f.told[from:len(f.told):len(f.told)]})
		}
	}
	return f.batches
}

// TakeHaves is what p has not heard yet, to travel on the back of a message that goes to
// it anyway. The result is valid until the next call of any method.
func (f *Fetcher) TakeHaves(p Peer) []uint32 {
	s, ok := f.slotOf[p]
	f.told = f.told[:0]
	if !ok || !f.unsaid(s) {
		return nil
	}
	return f.told
}

// unsaid appends to told what slot s has not heard and tells whether there was any.
func (f *Fetcher) unsaid(s int8) bool {
	n := &f.slots[s]
	before := len(f.told)
	for _, piece := range f.log[n.told:] {
		if f.holders[piece]>>s&1 == 0 {
			f.told = append(f.told, uint32(piece))
		}
	}
	n.told = len(f.log)
	return len(f.told) > before
}
