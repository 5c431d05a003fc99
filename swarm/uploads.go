package swarm

import "time"

// Uploads shares the upload slots of one swarm on one node. It never queues: who cannot
// be served now hears so at once.
type Uploads struct {
	slots   int
	used    int
	byPeer  map[Peer]int
	refused map[Peer]time.Duration // who was refused while it had no slot, and when
	wait    time.Duration
}

// NewUploads has that many slots, all free.
func NewUploads(slots int) *Uploads {
	return &Uploads{
		slots: slots, byPeer: map[Peer]int{}, refused: map[Peer]time.Duration{}, wait: 50 * time.Millisecond,
	}
}

// Admit takes a slot for p, or answers false: busy. The last of several slots is kept for
// urgent requests. When others were refused a moment ago a peer that has its share of the
// slots is refused although one is free.
func (u *Uploads) Admit(p Peer, urgent bool, now time.Duration) bool {
	mine := u.byPeer[p]
	slots := u.slots
	if !urgent && slots > 1 {
		slots--
	}
	if u.used >= slots || mine > 0 && mine >= u.share(p, now) {
		if mine == 0 {
			u.refused[p] = now
		}
		return false
	}
	delete(u.refused, p)
	u.used++
	u.byPeer[p] = mine + 1
	return true
}

// share is how many slots p may have now.
func (u *Uploads) share(p Peer, now time.Duration) int {
	askers := len(u.byPeer)
	for q, at := range u.refused {
		if now-at > u.wait {
			delete(u.refused, q)
		} else if q != p && u.byPeer[q] == 0 {
			askers++
		}
	}
	if len(u.refused) == 0 {
		return u.slots
	}
	return max(1, u.slots/max(askers, 1))
}

// Force takes a slot even when none is free, as a push does that the node itself started.
func (u *Uploads) Force(p Peer) {
	u.used++
	u.byPeer[p]++
}

// Done gives a slot of p back.
func (u *Uploads) Done(p Peer) {
	if u.byPeer[p] == 0 {
		return
	}
	u.used--
	if u.byPeer[p]--; u.byPeer[p] == 0 {
		delete(u.byPeer, p)
	}
}

// Load is the number of slots in use, to travel on the back of messages.
func (u *Uploads) Load() int { return u.used }

// Free is the number of slots that are free.
func (u *Uploads) Free() int { return max(0, u.slots-u.used) }
