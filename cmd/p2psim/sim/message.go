package sim

import (
	"time"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

type messageKind uint8

const (
	msgJoin      messageKind = iota // a host registers with the owner
	msgJoined                       // the owner answers: peers, known
	msgMore                         // a host asks the owner for more neighbours
	msgHello                        // first contact: bitmap
	msgHelloBack                    // its answer: bitmap
	msgHave                         // a batch
	msgRequest                      // asks for a piece
	msgBusy                         // no free slot
	msgGone                         // has not got it
	msgCancel                       // a request is no longer needed
	msgPush                         // a pushed piece follows
	msgRefuse                       // a push is not wanted
	msgAcked                        // a pushed piece is there
	msgReset                        // the connection broke
	msgAccept                       // the piece follows
	msgAccuse                       // a peer has lied
	kinds
)

// A message is what one host tells another beside the bytes of pieces. Every one carries
// the sender's load, how many midstates it knows and the pieces that the receiver has not
// heard of.
type message struct {
	kind       messageKind
	flag       bool // msgRequest: urgent; msgRefuse: had it; msgMore: stalled
	lastResort bool
	seeding    bool
	from, to   int32
	piece      int32
	load       int32
	known      int32
	haves      []uint32
	peers      []swarm.Peer
	bitmap     *piece.Bitmap
}

// A hold keeps what follows a lost message on the same connection.
type hold struct {
	until    time.Duration
	messages []int32
	key      uint64
}

func (s *sim) newMessage(kind messageKind, from, to int32) (int32, *message) {
	var id int32
	if n := len(s.freeMessages); n > 0 {
		id = s.freeMessages[n-1]
		s.freeMessages = s.freeMessages[:n-1]
	} else {
		s.messages = append(s.messages, message{})
		id = int32(len(s.messages) - 1)
	}
	m := &s.messages[id]
	*m = message{kind: kind, from: from, to: to, haves: m.haves[:0], peers: m.peers[:0]}
	if h := &s.hosts[from]; h.fetcher != nil {
		m.load, m.known, m.seeding = int32(h.uploads.Load()), int32(h.known), h.isSeeding()
	}
	return id, m
}

// carry puts what the receiver has not heard of on the message's back.
func (s *sim) carry(m *message) {
	if h := &s.hosts[m.from]; h.fetcher != nil {
		m.haves = append(m.haves, h.fetcher.TakeHaves(swarm.Peer(m.to))...)
	}
}

func (s *sim) send(id int32, now time.Duration) {
	m := &s.messages[id]
	s.sent[m.kind]++
	s.messageBytes += 60 + 2*int64(len(m.haves)) + 4*int64(len(m.peers))
	if m.bitmap != nil {
		s.messageBytes += int64(m.bitmap.Len() / 8)
	}
	arrive := now + s.cfg.RTT/2
	if s.cfg.Loss > 0 {
		key := uint64(m.from)<<32 | uint64(m.to)
		if h, ok := s.held[key]; ok {
			hd := &s.holds[h]
			hd.messages = append(hd.messages, id)
			if again := now + 3*s.cfg.RTT/2; again < hd.until {
				hd.until = again
				s.queue.push(event{at: again, kind: evRelease, b: h})
			}
			return
		}
		if s.rng.Float64() < s.cfg.Loss {
			s.hold(key, id, arrive+s.cfg.RTO)
			return
		}
	}
	s.queue.push(event{at: arrive, kind: evMessage, b: id})
}

func (s *sim) hold(key uint64, id int32, until time.Duration) {
	s.lostMessages++
	s.holds = append(s.holds, hold{until: until, messages: []int32{id}, key: key})
	h := int32(len(s.holds) - 1)
	s.held[key] = h
	s.queue.push(event{at: until, kind: evRelease, b: h})
}

func (s *sim) release(h int32, now time.Duration) {
	hd := &s.holds[h]
	if now < hd.until || hd.messages == nil {
		return
	}
	delete(s.held, hd.key)
	list := hd.messages
	hd.messages = nil
	for _, id := range list {
		s.queue.push(event{at: now, kind: evMessage, b: id})
	}
}
