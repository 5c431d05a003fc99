package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

const never = time.Duration(1<<63 - 1)

// A host is one simulated node with its links.
type host struct {
	id       int32
	zone     int
	fetcher  *swarm.Fetcher
	uploads  *swarm.Uploads
	seeder   *swarm.Seeder
	register *swarm.Register
	up       uplink
	downFree time.Duration
	cores    []time.Duration // when each is free
	clock    time.Duration
	wakeAt   time.Duration
	known    int
	reads    int // the piece that its client waits for
	dead     bool
	resets   bool // dead, and its kernel says so
	lies     bool
	start    time.Duration
	done     time.Duration
	shouted  bool // has told that it is no longer seeding
}

func (h *host) isSeeding() bool { return h.seeder != nil && !h.seeder.Done() }

// cpu is when a message that arrives now has been handled.
func (h *host) cpu(now, cost time.Duration) time.Duration {
	first := 0
	for i, at := range h.cores {
		if at < h.cores[first] {
			first = i
		}
	}
	h.cores[first] = max(now, h.cores[first]) + cost
	h.clock = max(h.clock, h.cores[first])
	return h.clock
}

func (s *sim) newHost(id int32) host {
	return host{
		id: id, zone: int(id) % s.cfg.Zones, cores: make([]time.Duration, s.cfg.Cores),
		up: uplink{quantum: s.upQuantum}, wakeAt: never, start: time.Duration(id) * s.cfg.Rolling,
		done: never,
	}
}

func peer(i int) swarm.Peer { return swarm.Peer(i) }

func zoneName(z int) string { return fmt.Sprintf("zone-%d", z) }

func (s *sim) rand() *rand.Rand { return rand.New(rand.NewPCG(s.rng.Uint64(), s.rng.Uint64())) }

// begin starts a host: the owner reads the upstream, the others register with it.
func (s *sim) begin(id int32, now time.Duration) {
	h := &s.hosts[id]
	if h.dead {
		return
	}
	cfg := swarm.Default(s.pieces)
	cfg.Outstanding = s.cfg.Outstanding
	var has *piece.Bitmap
	if id == s.owner && s.cfg.Warm {
		has = piece.FullBitmap(s.pieces)
		h.done = now
	}
	h.fetcher = swarm.NewFetcher(cfg, has, s.rand())
	h.uploads = swarm.NewUploads(s.cfg.Slots)
	h.clock = now
	s.want(h)
	if id != s.owner {
		s.join(h, now)
		return
	}
	s.own(h)
	if s.cfg.Warm {
		s.learnKnown(h, s.pieces)
		for i := range s.pieces {
			h.seeder.Add(i)
		}
		return
	}
	for i := range s.pieces {
		s.toRead = append(s.toRead, int32(i))
	}
	s.readNext(now + s.cfg.RTT)
}

// own makes a host the swarm's owner.
func (s *sim) own(h *host) {
	cfg := swarm.DefaultRegister(s.pieces)
	cfg.Zone = zoneName(h.zone)
	cfg.Neighbours = s.cfg.Neighbours
	h.register = swarm.NewRegister(cfg, s.rand())
	h.seeder = h.register.Seeder()
	h.register.JoinOwner(swarm.Peer(h.id), h.fetcher.Bitmap())
}

func (s *sim) join(h *host, now time.Duration) {
	id, m := s.newMessage(msgJoin, h.id, s.owner)
	m.bitmap = h.fetcher.Bitmap()
	m.piece = int32(max(0, s.cfg.Neighbours-h.fetcher.Peers()))
	s.send(id, now)
}

func (s *sim) learnKnown(h *host, n int) {
	if n > h.known {
		h.known = n
		h.fetcher.SetKnown(n)
	}
}

// want tells the fetcher what the host's client waits for.
func (s *sim) want(h *host) {
	if !s.cfg.InOrder {
		return
	}
	for h.reads < s.pieces && h.fetcher.Has(h.reads) {
		h.reads++
	}
	h.fetcher.SetWanted(h.reads, min(h.reads+4, s.pieces))
}

// readNext starts the upstream's next piece.
func (s *sim) readNext(now time.Duration) {
	if len(s.toRead) == 0 || s.hosts[s.owner].dead {
		return
	}
	next := s.toRead[0]
	s.toRead = s.toRead[1:]
	if s.hosts[s.owner].fetcher.Has(int(next)) {
		s.readNext(now)
		return
	}
	s.hosts[s.owner].fetcher.Expect(int(next), now)
	s.startFlow(s.upstream, s.owner, next, false, now)
}

// got notes a piece that a host has stored just now.
func (s *sim) got(h *host, piece int, fromUpstream bool, now time.Duration) {
	if h.id == s.owner {
		if fromUpstream {
			s.learnKnown(h, piece+1)
		}
		h.seeder.Add(piece)
		s.faults(now)
	} else if h.seeder != nil {
		h.seeder.Add(piece)
	}
	if piece == h.reads {
		s.want(h)
	}
	if h.fetcher.Complete() && h.done == never {
		h.done = now
		if !h.lies {
			s.unfinished--
		}
	}
}

// pump does all that a host can do now.
func (s *sim) pump(h *host, now time.Duration) {
	if h.dead || h.fetcher == nil {
		return
	}
	if h.seeder != nil {
		s.seed(h, now)
	}
	for _, r := range h.fetcher.Next(now, 2*s.cfg.Outstanding) {
		id, m := s.newMessage(msgRequest, h.id, int32(r.Peer))
		m.piece, m.flag, m.lastResort = int32(r.Piece), r.Urgent(), r.LastResort
		if r.Duplicate {
			s.duplicates++
		}
		s.carry(m)
		s.send(id, now)
	}
	for _, r := range h.fetcher.Cancels() {
		id, m := s.newMessage(msgCancel, h.id, int32(r.Peer))
		m.piece = int32(r.Piece)
		s.send(id, now)
	}
	for _, b := range h.fetcher.Haves(now) {
		id, m := s.newMessage(msgHave, h.id, int32(b.Peer))
		m.haves = append(m.haves, b.Pieces...)
		s.send(id, now)
	}
	s.moreNeighbours(h, now)
	s.wake(h, now)
}

func (s *sim) seed(h *host, now time.Duration) {
	for _, p := range h.seeder.Next(now, s.cfg.Slots) {
		h.uploads.Force(p.Peer)
		id, m := s.newMessage(msgPush, h.id, int32(p.Peer))
		m.piece = int32(p.Piece)
		s.carry(m)
		s.send(id, now)
		s.startFlow(h.id, int32(p.Peer), int32(p.Piece), true, now)
		s.pushes++
	}
	for _, p := range h.seeder.Overdue() {
		if s.stopFlow(h.id, int32(p.Peer), int32(p.Piece), true) {
			h.uploads.Done(p.Peer)
		}
	}
	if !h.shouted && h.seeder.Done() {
		h.shouted = true
		for _, p := range s.neighbours(h) {
			id, _ := s.newMessage(msgHave, h.id, p)
			s.send(id, now)
		}
	}
}

func (s *sim) neighbours(h *host) []int32 {
	var list []int32
	for i := range s.hosts[:s.cfg.Hosts] {
		if h.fetcher.HasPeer(swarm.Peer(i)) {
			list = append(list, int32(i))
		}
	}
	return list
}

func (s *sim) moreNeighbours(h *host, now time.Duration) {
	if h.id == s.owner || !h.fetcher.NeedsPeers(now) {
		return
	}
	id, m := s.newMessage(msgMore, h.id, s.owner)
	m.flag, m.piece = h.fetcher.Starving(now), int32(max(4, 24-h.fetcher.Peers()))
	s.send(id, now)
}

func (s *sim) wake(h *host, now time.Duration) {
	at, ok := h.fetcher.NextWake(now)
	if h.seeder != nil {
		if a, k := h.seeder.NextWake(now); k {
			at, ok = min(at, a), true
		}
	}
	if !ok {
		return
	}
	at = max(at, now+10*time.Microsecond)
	if at < h.wakeAt {
		h.wakeAt = at
		s.queue.push(event{at: at, kind: evWake, a: h.id})
	}
}
