package sim

import (
	"time"

	"github.com/pullonce/pullonce/swarm"
)

// faults lets happen what is due now that the owner has read another piece.
func (s *sim) faults(now time.Duration) {
	have := float64(s.hosts[s.owner].fetcher.Count()) / float64(s.pieces)
	for len(s.due) > 0 && have >= s.due[0].At {
		f := s.due[0]
		s.due = s.due[1:]
		s.strike(f, now)
	}
}

func (s *sim) strike(f Fault, now time.Duration) {
	id := s.owner
	for !f.Owner && (id == s.owner || s.hosts[id].dead) {
		id = int32(s.rng.IntN(s.cfg.Hosts))
	}
	h := &s.hosts[id]
	if f.Kind == Lie {
		h.lies = true
		s.liars++
		if h.done == never {
			s.unfinished--
		}
		return
	}
	h.dead, h.resets = true, f.Kind == Kill
	if h.done == never {
		s.unfinished--
	}
	after := s.cfg.RTT
	if f.Kind == Cut {
		after = swarm.Default(1).StallAfter
	}
	s.queue.push(event{at: now + after, kind: evSweep, a: id})
	if f.Owner {
		s.queue.push(event{at: now + s.cfg.Takeover, kind: evTakeover})
	}
}

// sweep is when the others' transports give up their connections to a dead host.
func (s *sim) sweep(dead int32, now time.Duration) {
	for i := range s.hosts[:s.cfg.Hosts] {
		h := &s.hosts[i]
		if h.dead || h.fetcher == nil {
			continue
		}
		s.lose(h, dead)
		s.pump(h, max(now, h.clock))
	}
}

// lose makes a host forget a dead peer.
func (s *sim) lose(h *host, dead int32) {
	p := swarm.Peer(dead)
	h.fetcher.RemovePeer(p)
	if h.register != nil {
		h.register.Leave(p)
	} else if h.seeder != nil {
		h.seeder.RemoveTarget(p)
	}
	for i := len(h.up.flows) - 1; i >= 0; i-- {
		if s.flows[h.up.flows[i]].dst == dead {
			s.removeFlow(&h.up, i)
			h.uploads.Done(p)
		}
	}
}

// takeover makes a random live host the owner; the others register with it.
func (s *sim) takeover(now time.Duration) {
	var live []int32
	for i := range s.hosts[:s.cfg.Hosts] {
		if h := &s.hosts[i]; !h.dead && h.fetcher != nil {
			live = append(live, int32(i))
		}
	}
	if len(live) == 0 {
		return
	}
	s.toRead = nil
	s.owner = live[s.rng.IntN(len(live))]
	h := &s.hosts[s.owner]
	s.own(h)
	s.settling = len(live) - 1
	for _, id := range live {
		if id != s.owner {
			s.join(&s.hosts[id], max(now, s.hosts[id].clock))
		}
	}
	if s.settling == 0 {
		s.readMissing(h, now)
	}
}

// readMissing is the successor's way: it fetches from the upstream only what no live host
// has, and the rest like everyone.
func (s *sim) readMissing(h *host, now time.Duration) {
	missing := h.register.Missing()
	for i := missing.NextClear(0); i >= 0; i = missing.NextClear(i + 1) {
		h.seeder.Elsewhere([]uint32{uint32(i)})
	}
	for i := missing.Next(0); i >= 0; i = missing.Next(i + 1) {
		s.toRead = append(s.toRead, int32(i))
	}
	s.readNext(now + s.cfg.RTT)
}
