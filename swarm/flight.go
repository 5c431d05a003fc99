package swarm

import "time"

// unasked is the slot of a flight that no request started.
const unasked int8 = -1

// A flight is one way on which a piece is coming.
type flight struct {
	piece         int32
	slot          int8
	duplicate     bool
	overdue       bool
	wanted        bool
	sent, touched time.Duration
}

func (f *Fetcher) fly(fl flight) {
	f.flights = append(f.flights, fl)
	f.inFlight[fl.piece]++
	if fl.slot != unasked {
		f.slots[fl.slot].asked++
	}
	if fl.wanted {
		f.wantedInFlight++
	}
	f.consider(fl.piece)
}

// land ends flight i; the last one takes its place.
func (f *Fetcher) land(i int) {
	fl := f.flights[i]
	last := len(f.flights) - 1
	f.flights[i] = f.flights[last]
	f.flights = f.flights[:last]
	f.inFlight[fl.piece]--
	if fl.overdue {
		f.overdue--
	}
	if fl.slot != unasked {
		if fl.overdue {
			f.slots[fl.slot].late--
		} else {
			f.slots[fl.slot].asked--
		}
	}
	if fl.wanted {
		f.wantedInFlight--
	}
	f.consider(fl.piece)
}

func (f *Fetcher) flightOf(piece int, slot int8) int {
	for i := range f.flights {
		if f.flights[i].piece == int32(piece) && f.flights[i].slot == slot {
			return i
		}
	}
	return -1
}

// timed learns from a flight that has ended because the piece came through slot.
func (f *Fetcher) timed(fl flight, slot int8, now time.Duration) {
	if fl.slot == unasked {
		return
	}
	took := now - fl.sent
	n := &f.slots[fl.slot]
	n.usual.add(took) // of a flight that was overtaken this is the least it would have taken
	f.usual.add(took)
	if fl.slot == slot {
		n.refusals, n.stalled = 0, false
	}
}

// lateAt is when a flight is overdue. As long as usual times are not known it is so when
// nothing has arrived for half of Config.StallAfter.
func (f *Fetcher) lateAt(fl *flight) time.Duration {
	if f.usual.n < 4 {
		return fl.touched + f.cfg.StallAfter/2
	}
	return fl.sent + max(f.usual.late(), f.cfg.HaveEvery)
}

// expire marks flights that are overdue and gives up those that have stalled. What was only
// expected is then asked for; should it come after all, so much the better.
func (f *Fetcher) expire(now time.Duration) {
	for i := len(f.flights) - 1; i >= 0; i-- {
		fl := &f.flights[i]
		if !fl.overdue && now >= f.lateAt(fl) {
			fl.overdue = true
			f.overdue++
			if fl.slot != unasked {
				f.slots[fl.slot].asked--
				f.slots[fl.slot].late++
			}
		}
		if now-fl.touched < f.cfg.StallAfter {
			continue
		}
		if fl.slot == unasked {
			f.land(i)
		} else {
			p, piece := f.slots[fl.slot].id, int(fl.piece)
			f.cancel = append(f.cancel, Request{Peer: p, Piece: piece, Duplicate: fl.duplicate})
			f.Failed(p, piece, Stalled, now)
		}
	}
}
