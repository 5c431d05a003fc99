package swarm

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/pullonce/pullonce/piece"
)

// PeerInfo is what a node knows of a neighbour besides its pieces.
type PeerInfo struct {
	// SameZone puts the peer before others that are as good.
	SameZone bool
	// Seeding says that the peer still hands out pieces that have never left it. It is
	// asked only when no other neighbour can help for as long as Config.Patience.
	Seeding bool
}

// A Request asks a peer for a piece.
type Request struct {
	Peer  Peer
	Piece int
	// Duplicate says that the piece is on its way from another peer already.
	Duplicate bool
	// LastResort says that no other neighbour can help; a seeding peer then answers
	// although it would rather send what has never left it.
	LastResort bool
}

// Urgent says that the request may take a peer's last upload slot, which Uploads keeps for
// such.
func (r Request) Urgent() bool { return r.Duplicate || r.LastResort }

// A Reason says why a request failed.
type Reason uint8

// Why a request failed.
const (
	Broken   Reason = iota // the connection or the peer reported an error
	Stalled                // no byte came in time
	Mismatch               // the bytes did not match the piece list: the peer lied and is never asked again
	Gone                   // the peer does not have the piece (any more)
)

// A Fetcher is one node's view of one swarm.
type Fetcher struct {
	cfg Config
	rng *rand.Rand

	has              *piece.Bitmap
	known            int
	window           span
	wanted           span
	wantedSince      time.Duration // since when the client waits for the first of them
	holders          []uint64      // for each piece the neighbours that have it, one bit a slot
	inFlight         []uint8       // for each piece how many ways it is coming
	order            *order        // pieces that may be asked for
	slots            [MaxNeighbours]neighbour
	slotOf           map[Peer]int8
	liars            map[Peer]struct{}
	present          uint64 // slots in use
	seeding          uint64 // of these, peers that are still seeding
	barren           uint64 // peers known to have nothing that may be asked for
	flights          []flight
	overdue          int // flights that count no longer
	wantedInFlight   int
	usual            estimate
	idleSince        time.Duration // since when there was room and nobody to ask, or never
	lastArrival      time.Duration
	moreAt, moreWait time.Duration // when to ask for more neighbours again
	log              []int32       // pieces in the order in which this node got them
	haveDue          time.Duration
	requests, cancel []Request
	batches          []Batch
	told             []uint32
}

// span is a range of pieces, to excluded.
type span struct{ from, to int }

func (s span) has(i int) bool { return i >= s.from && i < s.to }

const never = time.Duration(1<<63 - 1)

// NewFetcher starts with the pieces that the node has already (nil: none), which are
// copied. No piece may be asked for before SetKnown. It panics on a Config that does
// not validate.
func NewFetcher(cfg Config, has *piece.Bitmap, rng *rand.Rand) *Fetcher {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	f := &Fetcher{
		cfg: cfg, rng: rng, window: span{0, cfg.Pieces},
		holders: make([]uint64, cfg.Pieces), inFlight: make([]uint8, cfg.Pieces),
		order: newOrder(cfg.Pieces), slotOf: map[Peer]int8{}, liars: map[Peer]struct{}{},
		haveDue: never, idleSince: never, wantedSince: never,
	}
	if has == nil {
		f.has = piece.NewBitmap(cfg.Pieces)
	} else {
		f.has = has.Clone()
	}
	return f
}

// SetKnown says that pieces below n can be checked now; only these are asked for. It
// never goes down.
func (f *Fetcher) SetKnown(n int) {
	n = min(n, f.cfg.Pieces)
	for i := f.known; i < n; i++ {
		f.known = i + 1
		f.consider(int32(i))
	}
}

// SetWanted says that the local client waits for pieces from up to, not including, to:
// they are asked for first and in order, the first of them even of a peer that is seeding once
// the client has waited for Config.Patience and nobody else has it. Two equal numbers: it
// waits for nothing.
func (f *Fetcher) SetWanted(from, to int) {
	if from != f.wanted.from {
		f.wantedSince = never // until Next
	}
	f.wanted = span{max(from, 0), min(to, f.cfg.Pieces)}
}

// SetWindow confines requests to pieces from up to, not including, to: a node that
// cannot store asks only for what it can pass to its client soon.
func (f *Fetcher) SetWindow(from, to int) {
	f.window = span{max(from, 0), min(to, f.cfg.Pieces)}
	for i := range f.holders {
		f.consider(int32(i))
	}
}

// Has tells whether the node has piece i.
func (f *Fetcher) Has(i int) bool { return f.has.Has(i) }

// Count is the number of pieces that the node has.
func (f *Fetcher) Count() int { return f.has.Count() }

// Complete tells whether the node has all pieces.
func (f *Fetcher) Complete() bool { return f.has.Full() }

// Bitmap is the set of pieces that the node has, for the first contact with a peer. It
// is a copy.
func (f *Fetcher) Bitmap() *piece.Bitmap { return f.has.Clone() }

// Outstanding is the number of pieces on their way that are not overdue.
func (f *Fetcher) Outstanding() int { return len(f.flights) - f.overdue }

// Usual is the time that a piece takes at the moment, 0 when none has arrived yet.
func (f *Fetcher) Usual() time.Duration { return f.usual.mean }

// Expect says that a piece is on its way without having been asked for: a peer pushes
// it, or the upstream sends it. It is then not asked for, until it is overdue, and counts
// as outstanding. It answers false, and nothing changes, when the node has the piece, or
// has it coming from somewhere: the push should be refused then.
func (f *Fetcher) Expect(piece int, now time.Duration) bool {
	if f.has.Has(piece) || f.inFlight[piece] > 0 {
		return false
	}
	f.fly(flight{piece: int32(piece), slot: unasked, sent: now, touched: now})
	return true
}

// Unexpect takes Expect back: the piece will not come.
func (f *Fetcher) Unexpect(piece int) {
	if i := f.flightOf(piece, unasked); i >= 0 {
		f.land(i)
	}
}

// Stored says that the node has a piece, checked, that it did not get by a request:
// pushed, from the upstream or from disk. It answers false when the node had it already.
// Requests for the piece become cancellations.
func (f *Fetcher) Stored(piece int, now time.Duration) bool {
	return f.arrived(int32(piece), unasked, now)
}

// Received says that a piece which p was asked for has arrived, was checked and is
// stored. It answers false when the node had it already. Other requests for the same
// piece become cancellations.
func (f *Fetcher) Received(p Peer, piece int, now time.Duration) bool {
	s, ok := f.slotOf[p]
	if !ok {
		s = unasked
	}
	return f.arrived(int32(piece), s, now)
}

// Drop says that the node lost a piece that it had, for instance to a bad disk.
func (f *Fetcher) Drop(piece int) {
	if f.has.Clear(piece) {
		f.consider(int32(piece))
	}
}

// arrived stores the piece, ends its flights and times those that p's slot answered.
func (f *Fetcher) arrived(piece int32, slot int8, now time.Duration) bool {
	for i := len(f.flights) - 1; i >= 0; i-- {
		fl := f.flights[i]
		if fl.piece != piece {
			continue
		}
		f.land(i)
		f.timed(fl, slot, now)
		if fl.slot != slot && fl.slot != unasked {
			f.cancel = append(f.cancel, Request{Peer: f.slots[fl.slot].id, Piece: int(piece), Duplicate: fl.duplicate})
		}
	}
	if !f.has.Set(int(piece)) {
		return false
	}
	f.lastArrival = now
	f.consider(piece)
	f.tell(piece, now)
	return true
}

// consider puts a piece into the order or takes it out, as its state now asks for.
func (f *Fetcher) consider(p int32) {
	i := int(p)
	may := i < f.known && f.inFlight[p] == 0 && f.holders[p] != 0 && !f.has.Has(i) && f.window.has(i)
	switch {
	case may && f.order.has(p):
		f.order.move(p, bits.OnesCount64(f.holders[p]))
	case may:
		f.order.add(p, bits.OnesCount64(f.holders[p]))
		f.barren &^= f.holders[p]
	case f.order.has(p):
		f.order.remove(p)
	}
}
