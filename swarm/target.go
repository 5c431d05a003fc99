package swarm

import (
	"time"

	"github.com/pullonce/pullonce/piece"
)

// A target is a peer that takes pushes.
type target struct {
	id           Peer
	unacked      int
	failures     int
	blockedUntil time.Duration
}

// AddTarget adds a peer that takes pushes and has these pieces already (nil: none), which
// are not sent again: they count as out.
func (s *Seeder) AddTarget(p Peer, have *piece.Bitmap) {
	s.MarkOut(have)
	if _, ok := s.indexOf[p]; ok {
		return
	}
	s.indexOf[p] = len(s.targets)
	s.targets = append(s.targets, target{id: p})
	// A random place in the line, so that those who came together are not served in order.
	last, other := len(s.targets)-1, s.rng.IntN(len(s.targets))
	s.swap(last, other)
}

// Target tells whether p is a target.
func (s *Seeder) Target(p Peer) bool { _, ok := s.indexOf[p]; return ok }

// RemoveTarget drops a peer that is gone, slow or lying. What was pushed to it is pushed
// again to others, unless somebody else was heard to have it.
func (s *Seeder) RemoveTarget(p Peer) {
	if !s.Target(p) {
		return
	}
	for j := len(s.pushes) - 1; j >= 0; j-- {
		if s.pushes[j].Peer == p {
			s.drop(j)
		}
	}
	for i, q := range s.to {
		if q == p {
			s.requeue(i)
		}
	}
	s.unlist(p)
}

// RetireTarget ends pushes to a peer that is well: what went to it stays out.
func (s *Seeder) RetireTarget(p Peer) {
	if !s.Target(p) {
		return
	}
	for i, q := range s.to {
		if q == p {
			s.to[i] = none
		}
	}
	s.unlist(p)
}

func (s *Seeder) unlist(p Peer) {
	i := s.indexOf[p]
	last := len(s.targets) - 1
	s.swap(i, last)
	s.targets = s.targets[:last]
	delete(s.indexOf, p)
}

func (s *Seeder) swap(i, j int) {
	s.targets[i], s.targets[j] = s.targets[j], s.targets[i]
	s.indexOf[s.targets[i].id], s.indexOf[s.targets[j].id] = i, j
}

// target is whose turn it is among the peers that can take a push: they go round, those
// with fewest unacknowledged pushes first.
func (s *Seeder) target(now time.Duration) *target {
	found := -1
	for k := range s.targets {
		i := (s.turn + k) % len(s.targets)
		t := &s.targets[i]
		if t.blockedUntil > now || t.unacked >= s.perPeer() {
			continue
		}
		if found < 0 || t.unacked < s.targets[found].unacked {
			found = i
		}
		if t.unacked == 0 {
			break
		}
	}
	if found < 0 {
		return nil
	}
	s.turn = (found + 1) % len(s.targets)
	return &s.targets[found]
}

func (s *Seeder) perPeer() int { return max(s.cfg.PerPeer, s.cfg.Slots/max(len(s.targets), 1)) }
