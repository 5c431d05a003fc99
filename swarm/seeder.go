package swarm

import (
	"math/rand/v2"
	"time"

	"github.com/pullonce/pullonce/piece"
)

// A SeederConfig holds how a source hands out its pieces.
type SeederConfig struct {
	// Pieces is the number of pieces of the blob; it has no default.
	Pieces int
	// Slots is how many pushes are on their way at once, default 8.
	Slots int
	// PerPeer is how many of these go to one peer, default 4; while there are fewer than
	// four peers all slots are shared among them.
	PerPeer int
	// StallAfter is how long a push may make no progress as long as usual times are not known,
	// default 10 s; then it is four times as long as a push usually takes, but not below 50 ms.
	StallAfter time.Duration
}

// DefaultSeeder is the configuration for a blob of that many pieces.
func DefaultSeeder(pieces int) SeederConfig {
	return SeederConfig{Pieces: pieces, Slots: 8, PerPeer: 4, StallAfter: 10 * time.Second}
}

// A Push sends a piece that its receiver has not asked for.
type Push struct {
	Peer  Peer
	Piece int
}

// A Seeder hands out pieces that nobody else has: each is pushed to one peer, which
// passes it on, and none leaves a second time before all that are there have left once
// (unless the first push failed). The owner of a blob has one for its registered nodes, a
// zone's importer and a lone holder one for their neighbours.
type Seeder struct {
	cfg     SeederConfig
	rng     *rand.Rand
	mine    *piece.Bitmap // pieces that are here
	out     *piece.Bitmap // pieces that have left, or that others have
	heard   *piece.Bitmap // pieces that others were heard to have
	to      []Peer        // to whom each piece was pushed, none: to nobody
	again   *piece.Bitmap // pieces whose push failed, they go first
	queue   []int32       // pieces in the order in which they came here
	head    int           // what stands before it in the queue is out
	targets []target
	indexOf map[Peer]int
	turn    int
	pushes  []push
	result  []Push
	lost    []Push
	usual   estimate
}

type push struct {
	Push
	sent, touched time.Duration
}

// NewSeeder has no pieces and no peers.
func NewSeeder(cfg SeederConfig, rng *rand.Rand) *Seeder {
	s := &Seeder{
		cfg: cfg, rng: rng, indexOf: map[Peer]int{}, to: make([]Peer, cfg.Pieces),
		mine: piece.NewBitmap(cfg.Pieces), out: piece.NewBitmap(cfg.Pieces), heard: piece.NewBitmap(cfg.Pieces),
		again: piece.NewBitmap(cfg.Pieces),
	}
	for i := range s.to {
		s.to[i] = none
	}
	return s
}

// Add says that this node has a piece, checked. Pieces leave in the order in which they
// were added.
func (s *Seeder) Add(piece int) {
	if s.mine.Set(piece) {
		s.queue = append(s.queue, int32(piece))
	}
}

// requeue lets a piece leave again, unless somebody was heard to have it.
func (s *Seeder) requeue(i int) {
	s.to[i] = none
	if !s.heard.Has(i) {
		s.again.Set(i)
	}
}

// forgotten says that nobody is known to have a piece any more, whatever was heard.
func (s *Seeder) forgotten(i int) {
	if !s.out.Has(i) || !s.heard.Clear(i) {
		return
	}
	if s.mine.Has(i) {
		s.requeue(i)
	} else {
		s.out.Clear(i)
	}
}

// Elsewhere says that another node was heard to have these pieces: they need not be pushed.
func (s *Seeder) Elsewhere(pieces []uint32) {
	for _, i := range pieces {
		if int64(i) < int64(s.cfg.Pieces) {
			s.out.Set(int(i))
			s.heard.Set(int(i))
			s.again.Clear(int(i))
		}
	}
}

// MarkOut is Elsewhere for a whole bitmap; nil: nothing.
func (s *Seeder) MarkOut(pieces *piece.Bitmap) {
	if pieces == nil {
		return
	}
	for i := pieces.Next(0); i >= 0 && i < s.cfg.Pieces; i = pieces.Next(i + 1) {
		s.out.Set(i)
		s.heard.Set(i)
		s.again.Clear(i)
	}
}

// Next is the pushes to start now, at most slots. The slice is valid until the next call.
func (s *Seeder) Next(now time.Duration, slots int) []Push {
	s.result = s.result[:0]
	s.expire(now)
	slots = min(slots, s.cfg.Slots-len(s.pushes))
	for len(s.result) < slots {
		p, again, ok := s.waiting()
		if !ok {
			break
		}
		t := s.target(now)
		if t == nil {
			break
		}
		if again {
			s.again.Clear(p)
		}
		s.out.Set(p)
		s.to[p] = t.id
		t.unacked++
		s.pushes = append(s.pushes, push{Push{t.id, p}, now, now})
		s.result = append(s.result, Push{t.id, p})
	}
	return s.result
}

// Overdue is pushes that were given up since the last call because nobody acknowledged
// them; the driver stops sending them. The slice is valid until the next call of Next.
func (s *Seeder) Overdue() []Push {
	l := s.lost
	s.lost = s.lost[:0]
	return l
}

// waiting is the piece to push next.
func (s *Seeder) waiting() (i int, again, ok bool) {
	if i := s.again.Next(0); i >= 0 {
		return i, true, true
	}
	for s.head < len(s.queue) && s.out.Has(int(s.queue[s.head])) {
		s.head++
	}
	if s.head == len(s.queue) {
		return 0, false, false
	}
	return int(s.queue[s.head]), false, true
}

// Acked says that p has a pushed piece, checked.
func (s *Seeder) Acked(p Peer, piece int, now time.Duration) {
	if j := s.find(p, piece); j >= 0 {
		s.usual.add(now - s.pushes[j].sent)
		s.drop(j)
	}
	if i, ok := s.indexOf[p]; ok {
		s.targets[i].failures = 0
	}
}

// Refused says that p does not want the push because it has the piece or has it coming:
// had is true; or that it has no room now, then the piece goes to another peer.
func (s *Seeder) Refused(p Peer, piece int, had bool, now time.Duration) {
	j := s.find(p, piece)
	if j < 0 {
		return
	}
	s.drop(j)
	if had {
		return
	}
	s.requeue(piece)
	if i, ok := s.indexOf[p]; ok {
		s.targets[i].blockedUntil = now + max(5*time.Millisecond, s.usual.mean/2)
	}
}

// Failed says that a push broke. The piece goes to another peer; p is left alone for a
// time that grows with each failure in a row.
func (s *Seeder) Failed(p Peer, piece int, now time.Duration) {
	if j := s.find(p, piece); j >= 0 {
		s.requeue(piece)
		s.drop(j)
	}
	s.block(p, now)
}

func (s *Seeder) block(p Peer, now time.Duration) {
	if i, ok := s.indexOf[p]; ok {
		t := &s.targets[i]
		t.blockedUntil = now + (100*time.Millisecond)<<min(t.failures, 6)
		t.failures++
	}
}

// Progress says that bytes of a push are leaving: it has not stalled. Drivers of links on which
// a piece can take longer than SeederConfig.StallAfter must call it.
func (s *Seeder) Progress(p Peer, piece int, now time.Duration) {
	if j := s.find(p, piece); j >= 0 {
		s.pushes[j].touched = now
	}
}

// expire gives up pushes that nobody has acknowledged in time.
func (s *Seeder) expire(now time.Duration) {
	after := s.stallAfter()
	for j := len(s.pushes) - 1; j >= 0; j-- {
		if p := s.pushes[j]; now-p.touched >= after {
			s.lost = append(s.lost, p.Push)
			s.usual.add(now - p.sent)
			s.Failed(p.Peer, p.Piece, now)
		}
	}
}

// stallAfter is how long a push may take. It grows with each that is given up, since that
// counts as the time it took: on a slow link every push is slow.
func (s *Seeder) stallAfter() time.Duration {
	if s.usual.n < 4 {
		return s.cfg.StallAfter
	}
	return max(4*s.usual.mean, s.usual.late(), 50*time.Millisecond)
}

// NextWake is when Next must be called again even if nothing happens until then; false:
// never.
func (s *Seeder) NextWake(now time.Duration) (time.Duration, bool) {
	at := never
	after := s.stallAfter()
	for _, p := range s.pushes {
		at = min(at, p.touched+after)
	}
	if _, _, ok := s.waiting(); ok && len(s.pushes) < s.cfg.Slots {
		for i := range s.targets {
			if b := s.targets[i].blockedUntil; b > now {
				at = min(at, b)
			}
		}
	}
	return at, at != never
}

// Admit tells whether p's request for a piece may be served as far as seeding goes; the
// upload slots are asked as well. While pieces wait to leave for the first time, or are on
// their way, a piece that has left already is refused, unless the asker says that nobody else
// can help it. A piece that has never left counts as out from then on, if p is a target.
func (s *Seeder) Admit(p Peer, piece int, lastResort bool) bool {
	if _, ok := s.indexOf[p]; ok && !s.out.Has(piece) {
		s.out.Set(piece)
		s.to[piece] = p
		return true
	}
	if lastResort || s.Done() || len(s.targets) == 0 {
		return true
	}
	_, _, waiting := s.waiting()
	return !waiting && len(s.pushes) == 0
}

// Done tells whether every piece of the blob has left once and has arrived; from then on
// the node is a peer like any other.
func (s *Seeder) Done() bool {
	if len(s.pushes) > 0 || !s.out.Full() {
		return false
	}
	_, _, waiting := s.waiting()
	return !waiting
}

// InFlight is the number of pushes that are not acknowledged.
func (s *Seeder) InFlight() int { return len(s.pushes) }

func (s *Seeder) find(p Peer, piece int) int {
	for j := range s.pushes {
		if s.pushes[j].Peer == p && s.pushes[j].Piece == piece {
			return j
		}
	}
	return -1
}

func (s *Seeder) drop(j int) {
	if i, ok := s.indexOf[s.pushes[j].Peer]; ok {
		s.targets[i].unacked--
	}
	last := len(s.pushes) - 1
	s.pushes[j] = s.pushes[last]
	s.pushes = s.pushes[:last]
}
