package sim

import "time"

// quanta is into how many parts a piece is cut on the wire.
const quanta = 8

// maxWindow is the most quanta of a flow that may be on the wire.
const maxWindow = 8

// A flow is one piece on its way from one host to another.
type flow struct {
	src, dst, piece int32
	sent            uint8
	push            bool
	wrong           bool
	acks            [maxWindow]time.Duration // when each of the last window's quanta is acknowledged
}

// uplink is a host's way out: it sends quanta of its flows in turn.
type uplink struct {
	flows   []int32
	turn    int
	quantum time.Duration
	busy    bool // an evUplink for it is on its way
}

func (s *sim) startFlow(src, dst, piece int32, push bool, now time.Duration) {
	id := s.newFlow()
	s.flows[id] = flow{src: src, dst: dst, piece: piece, push: push, wrong: src < s.upstream && s.hosts[src].lies}
	u := &s.hosts[src].up
	u.flows = append(u.flows, id)
	s.kick(src, now)
}

func (s *sim) newFlow() int32 {
	if n := len(s.freeFlows); n > 0 {
		id := s.freeFlows[n-1]
		s.freeFlows = s.freeFlows[:n-1]
		return id
	}
	s.flows = append(s.flows, flow{})
	return int32(len(s.flows) - 1)
}

func (s *sim) kick(h int32, now time.Duration) {
	if u := &s.hosts[h].up; !u.busy {
		u.busy = true
		s.queue.push(event{at: now, kind: evUplink, a: h})
	}
}

// uplinkFree sends the next quantum of a flow whose window is open.
func (s *sim) uplinkFree(h int32, now time.Duration) {
	u := &s.hosts[h].up
	u.busy = false
	if s.hosts[h].dead || len(u.flows) == 0 {
		return
	}
	earliest := never
	for k := range u.flows {
		i := (u.turn + k) % len(u.flows)
		fl := &s.flows[u.flows[i]]
		if open := fl.acks[int(fl.sent)%s.window]; open > now {
			earliest = min(earliest, open)
			continue
		}
		u.turn = i + 1
		u.busy = true
		s.queue.push(event{at: now + u.quantum, kind: evUplink, a: h})
		s.sendQuantum(u, i, now)
		return
	}
	if earliest != never {
		u.busy = true
		s.queue.push(event{at: earliest, kind: evUplink, a: h})
	}
}

func (s *sim) sendQuantum(u *uplink, i int, now time.Duration) {
	id := u.flows[i]
	fl := &s.flows[id]
	d := &s.hosts[fl.dst]
	arrive := now + u.quantum + s.cfg.RTT/2
	if d.dead {
		fl.acks[int(fl.sent)%s.window] = never // nothing comes back
		fl.sent++
		return
	}
	done := max(arrive, d.downFree+s.downQuantum)
	d.downFree = done
	fl.acks[int(fl.sent)%s.window] = done + s.cfg.RTT/2
	fl.sent++
	s.count(fl)
	if s.slowLinks {
		s.progress(fl, done)
	}
	if int(fl.sent) < quanta {
		return
	}
	u.flows = append(u.flows[:i], u.flows[i+1:]...)
	if u.turn > i {
		u.turn--
	}
	if s.cfg.Loss > 0 && s.rng.Float64() < s.cfg.Loss {
		done += s.cfg.RTT
	}
	s.queue.push(event{at: done, kind: evPiece, b: id})
	s.sentAll(fl, now+u.quantum)
}

// count adds a quantum to the sums.
func (s *sim) count(fl *flow) {
	q := s.cfg.Piece / quanta
	s.bytes += q
	if fl.src == s.upstream {
		s.upstreamBytes += q
	} else if s.hosts[fl.src].zone != s.hosts[fl.dst].zone {
		s.crossBytes += q
	}
}

// stopFlow ends a flow that is still sending and tells whether there was one.
func (s *sim) stopFlow(src, dst, piece int32, push bool) bool {
	u := &s.hosts[src].up
	for i, id := range u.flows {
		if fl := &s.flows[id]; fl.dst == dst && fl.piece == piece && fl.push == push {
			s.removeFlow(u, i)
			return true
		}
	}
	return false
}

func (s *sim) removeFlow(u *uplink, i int) {
	id := u.flows[i]
	u.flows = append(u.flows[:i], u.flows[i+1:]...)
	if u.turn > i {
		u.turn--
	}
	s.wasted += int64(s.flows[id].sent) * (s.cfg.Piece / quanta)
	s.freeFlows = append(s.freeFlows, id)
}
