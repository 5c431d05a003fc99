package sim

import (
	"time"

	"github.com/pullonce/pullonce/swarm"
)

// deliver hands a message to the host that it is for.
func (s *sim) deliver(id int32, now time.Duration) {
	m := &s.messages[id]
	h := &s.hosts[m.to]
	if h.dead || h.fetcher == nil {
		s.refuseDead(m, now)
		s.freeMessages = append(s.freeMessages, id)
		return
	}
	now = h.cpu(now, s.cfg.MessageCost)
	from := swarm.Peer(m.from)
	s.learnKnown(h, int(m.known))
	h.fetcher.Load(from, int(m.load))
	h.fetcher.SetSeeding(from, m.seeding)
	if len(m.haves) > 0 {
		h.fetcher.Have(from, m.haves)
		if h.register != nil {
			h.register.Have(from, m.haves)
		}
		if h.seeder != nil && s.hosts[m.from].zone == h.zone {
			h.seeder.Elsewhere(m.haves)
		}
	}
	s.handle(h, id, now)
	s.freeMessages = append(s.freeMessages, id)
	s.pump(h, now)
}

// refuseDead is what a sender hears when nobody is there: after a kill the host's kernel
// resets the connection, after a cut nothing comes.
func (s *sim) refuseDead(m *message, now time.Duration) {
	h := &s.hosts[m.to]
	if !h.dead || !h.resets || m.kind == msgReset {
		return
	}
	id, r := s.newMessage(msgReset, m.to, m.from)
	_ = r
	s.queue.push(event{at: now + s.cfg.RTT/2, kind: evMessage, b: id})
}

// handle does what one kind of message asks for. New messages may move the slice that the
// message is in, so it is copied.
func (s *sim) handle(h *host, id int32, now time.Duration) {
	m := s.messages[id]
	from := swarm.Peer(m.from)
	switch m.kind {
	case msgJoin:
		s.joined(h, m, now)
	case msgJoined:
		s.greet(h, m, now)
	case msgMore:
		if h.register != nil {
			s.answerPeers(h, m.from, h.register.More(from, int(m.piece), m.flag), now)
		}
	case msgHello, msgHelloBack:
		s.meet(h, m, now)
	case msgRequest:
		s.request(h, m, now)
	case msgBusy:
		s.busy++
		h.fetcher.Busy(from, int(m.piece), now, 0)
	case msgGone:
		h.fetcher.Failed(from, int(m.piece), swarm.Gone, now)
	case msgCancel:
		if s.stopFlow(h.id, m.from, m.piece, false) {
			h.uploads.Done(from)
		}
	case msgPush:
		if !h.fetcher.Expect(int(m.piece), now) {
			r, b := s.newMessage(msgRefuse, h.id, m.from)
			b.piece, b.flag = m.piece, true
			s.send(r, now)
		}
	case msgRefuse:
		h.seeder.Refused(from, int(m.piece), m.flag, now)
		if s.stopFlow(h.id, m.from, m.piece, true) {
			h.uploads.Done(from)
		}
	case msgAcked:
		h.seeder.Acked(from, int(m.piece), now)
		if h.register != nil {
			h.register.Have(from, []uint32{uint32(m.piece)})
		}
	case msgAccuse:
		if h.register != nil {
			h.register.Leave(swarm.Peer(m.piece))
		}
	case msgReset:
		s.lose(h, m.from)
	case msgHave, msgAccept:
	}
}

func (s *sim) joined(h *host, m message, now time.Duration) {
	if h.register == nil {
		return
	}
	peers := h.register.Join(swarm.Peer(m.from), zoneName(s.hosts[m.from].zone), m.bitmap, int(m.piece))
	s.answerPeers(h, m.from, peers, now)
	if s.settling > 0 {
		if s.settling--; s.settling == 0 {
			s.readMissing(h, now)
		}
	}
}

func (s *sim) answerPeers(h *host, to int32, peers []swarm.Peer, now time.Duration) {
	id, a := s.newMessage(msgJoined, h.id, to)
	a.peers = append(a.peers, peers...)
	if p, ok := h.register.Importer(zoneName(s.hosts[to].zone)); ok {
		a.flag = p == swarm.Peer(to)
	}
	s.send(id, now)
}

// greet contacts the neighbours that the owner has named.
func (s *sim) greet(h *host, m message, now time.Duration) {
	if m.flag && h.seeder == nil {
		h.seeder = swarm.NewSeeder(swarm.DefaultSeeder(s.pieces), s.rand())
	}
	for _, p := range m.peers {
		if h.fetcher.HasPeer(p) {
			continue
		}
		id, hello := s.newMessage(msgHello, h.id, int32(p))
		hello.bitmap = h.fetcher.Bitmap()
		s.send(id, now)
	}
}

// meet makes the sender a neighbour and answers its greeting.
func (s *sim) meet(h *host, m message, now time.Duration) {
	p := swarm.Peer(m.from)
	same := s.hosts[m.from].zone == h.zone
	if !h.fetcher.AddPeer(p, swarm.PeerInfo{SameZone: same, Seeding: m.seeding}, m.bitmap) {
		return
	}
	if h.seeder != nil && h.register == nil && same {
		h.seeder.AddTarget(p, m.bitmap)
	}
	if m.kind == msgHello {
		id, back := s.newMessage(msgHelloBack, h.id, m.from)
		back.bitmap = h.fetcher.Bitmap()
		s.send(id, now)
	}
}

func (s *sim) request(h *host, m message, now time.Duration) {
	from := swarm.Peer(m.from)
	if !h.fetcher.Has(int(m.piece)) {
		id, r := s.newMessage(msgGone, h.id, m.from)
		r.piece = m.piece
		s.send(id, now)
		return
	}
	if h.uploads.Free() == 0 || h.seeder != nil && !h.seeder.Admit(from, int(m.piece), m.lastResort) || !h.uploads.Admit(from, m.flag, now) {
		id, r := s.newMessage(msgBusy, h.id, m.from)
		r.piece = m.piece
		s.carry(r)
		s.send(id, now)
		return
	}
	id, r := s.newMessage(msgAccept, h.id, m.from)
	s.carry(r)
	s.send(id, now)
	s.startFlow(h.id, m.from, m.piece, false, now)
}

// pieceArrived ends a flow at its receiver.
func (s *sim) pieceArrived(id int32, now time.Duration) {
	fl := s.flows[id]
	s.freeFlows = append(s.freeFlows, id)
	h := &s.hosts[fl.dst]
	if h.dead {
		return
	}
	now = h.cpu(now, s.cfg.MessageCost)
	from, i := swarm.Peer(fl.src), int(fl.piece)
	var isNew bool
	switch {
	case fl.wrong:
		s.accuse(h, fl.src, now)
		h.fetcher.Failed(from, i, swarm.Mismatch, now)
		h.fetcher.Unexpect(i)
	case fl.src == s.upstream:
		isNew = h.fetcher.Stored(i, now)
	case fl.push:
		isNew = h.fetcher.Stored(i, now)
		ack, m := s.newMessage(msgAcked, h.id, fl.src)
		m.piece = fl.piece
		s.carry(m)
		s.send(ack, now)
	default:
		isNew = h.fetcher.Received(from, i, now)
	}
	if isNew {
		s.got(h, i, fl.src == s.upstream, now)
	} else {
		s.wasted += s.cfg.Piece
	}
	s.pump(h, now)
}

// sentAll frees the upload slot of a flow that has been sent.
func (s *sim) sentAll(fl *flow, at time.Duration) {
	if fl.src == s.upstream {
		s.readNext(at)
		return
	}
	s.hosts[fl.src].uploads.Done(swarm.Peer(fl.dst))
}

func (s *sim) progress(fl *flow, at time.Duration) {
	if h := &s.hosts[fl.src]; fl.push && h.seeder != nil {
		h.seeder.Progress(swarm.Peer(fl.dst), int(fl.piece), at)
	}
	s.hosts[fl.dst].fetcher.Progress(swarm.Peer(fl.src), int(fl.piece), at)
}

// accuse tells the owner who lied: it takes the liar out of its register.
func (s *sim) accuse(h *host, liar int32, now time.Duration) {
	if h.id == s.owner {
		h.register.Leave(swarm.Peer(liar))
		return
	}
	id, m := s.newMessage(msgAccuse, h.id, s.owner)
	m.piece = liar
	s.send(id, now)
}
