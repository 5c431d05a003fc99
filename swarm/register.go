package swarm

import (
	"math/rand/v2"

	"github.com/pullonce/pullonce/piece"
)

// A RegisterConfig holds how an owner brings the nodes of a swarm together.
type RegisterConfig struct {
	// Pieces is the number of pieces of the blob; it has no default.
	Pieces int
	// Neighbours is how many a node that joins is given, default 12. It is given to later
	// ones in turn, and asks for More when the swarm has come together: 24 to 32 in the end.
	Neighbours int
	// MostNeighbours is where a node is given to no one any more unless all are so,
	// default 32.
	MostNeighbours int
	// Zone is the owner's zone.
	Zone string
	// Importer names the node that is to fetch for a zone; nil or false: the register
	// takes the node of that zone that came first.
	Importer func(zone string) (Peer, bool)
	// Connected tells whether two nodes have a connection already, for instance by another
	// swarm; such pairs are preferred. nil: nobody has.
	Connected func(a, b Peer) bool
	// Seeder is how the owner seeds; its zero value is DefaultSeeder(Pieces).
	Seeder SeederConfig
}

// DefaultRegister is the configuration for a blob of that many pieces.
func DefaultRegister(pieces int) RegisterConfig {
	return RegisterConfig{
		Pieces: pieces, Neighbours: 12, MostNeighbours: 32, Seeder: DefaultSeeder(pieces),
	}
}

// A Register is the owner's list of the nodes that fetch or hold its blob. The owner itself
// is in it once it has called JoinOwner, so that others can be its neighbours.
type Register struct {
	cfg     RegisterConfig
	rng     *rand.Rand
	members map[Peer]*member
	zones   map[string]*zone
	all     []*member
	holders []Peer
	home    int     // members of the owner's zone but for the owner
	had     []int32 // for each piece how many members but the owner have said that they have it
	owner   *member // nil until JoinOwner
	seeder  *Seeder
	seen    map[Peer]struct{}
	result  []Peer
}

type member struct {
	id      Peer
	zone    string
	have    *piece.Bitmap
	degree  int
	links   []Peer // whom it was introduced to
	atAll   int
	atZone  int
	stalled bool
	owner   bool
}

type zone struct {
	members  []*member
	importer *member
	target   Peer // to whom the owner pushes in a zone that is not its own
}

// NewRegister has no members.
func NewRegister(cfg RegisterConfig, rng *rand.Rand) *Register {
	if cfg.Seeder == (SeederConfig{}) {
		cfg.Seeder = DefaultSeeder(cfg.Pieces)
	}
	return &Register{
		cfg: cfg, rng: rng, members: map[Peer]*member{}, zones: map[string]*zone{},
		had: make([]int32, cfg.Pieces), seeder: NewSeeder(cfg.Seeder, rng), seen: map[Peer]struct{}{},
	}
}

// Seeder is the owner's own; its targets follow the register.
func (r *Register) Seeder() *Seeder { return r.seeder }

// JoinOwner puts the owner itself into the register: it is given to others as a neighbour
// and takes no pushes. It is given none itself: they come to it.
func (r *Register) JoinOwner(p Peer, have *piece.Bitmap) {
	r.join(p, r.cfg.Zone, have, 0, true)
}

// Join puts a node into the register, with the pieces that it has (nil: none), and gives
// up to want neighbours that it is to contact, at most RegisterConfig.Neighbours; a node that
// has neighbours already, because an owner was lost, wants few. Those take the newcomer as
// their neighbour in turn: its first message to them is their introduction. Joining again
// adds to what the node said before and gives it neighbours beyond those that it was given
// already. The result is valid until the next call.
func (r *Register) Join(p Peer, zone string, have *piece.Bitmap, want int) []Peer {
	return r.join(p, zone, have, min(want, r.cfg.Neighbours), false)
}

func (r *Register) join(p Peer, zoneName string, have *piece.Bitmap, want int, owner bool) []Peer {
	if old, ok := r.members[p]; ok && (old.zone != zoneName || old.owner != owner) {
		r.Leave(p)
	}
	m, ok := r.members[p]
	if !ok {
		m = r.enter(p, zoneName, owner)
	}
	if have != nil {
		for i := have.Next(0); i >= 0 && i < r.cfg.Pieces; i = have.Next(i + 1) {
			r.note(m, i)
		}
		r.seeder.MarkOut(r.elsewhere(m, have))
	}
	if m.zone != r.cfg.Zone {
		r.retarget(m.zone)
	}
	return r.introduce(m, want, false)
}

// elsewhere is what a member's pieces mean to the seeder: nothing if they are the owner's own.
func (r *Register) elsewhere(m *member, have *piece.Bitmap) *piece.Bitmap {
	if m.owner {
		return nil
	}
	return have
}

func (r *Register) enter(p Peer, zoneName string, owner bool) *member {
	z := r.zones[zoneName]
	if z == nil {
		z = &zone{target: none}
		r.zones[zoneName] = z
	}
	m := &member{
		id: p, zone: zoneName, owner: owner, have: piece.NewBitmap(r.cfg.Pieces),
		atAll: len(r.all), atZone: len(z.members),
	}
	if owner {
		r.owner = m
	}
	r.members[p] = m
	r.all = append(r.all, m)
	z.members = append(z.members, m)
	if zoneName == r.cfg.Zone && !owner {
		r.seeder.AddTarget(p, nil)
		if r.home++; r.home == 1 {
			r.retarget(zoneName)
		}
	}
	return m
}

func (r *Register) note(m *member, i int) {
	if m.have.Set(i) {
		if !m.owner {
			r.had[i]++
		}
		if m.have.Full() {
			r.holders = append(r.holders, m.id)
		}
	}
}

// Leave takes a node out, because it left, died or lied; others are not given it any more, and
// what no other member but the owner is known to have is pushed again.
func (r *Register) Leave(p Peer) {
	m, ok := r.members[p]
	if !ok {
		return
	}
	delete(r.members, p)
	if m.owner {
		r.owner = nil
	}
	for i := m.have.Next(0); !m.owner && i >= 0; i = m.have.Next(i + 1) {
		if r.had[i]--; r.had[i] == 0 {
			r.seeder.forgotten(i)
		}
	}
	if m.have.Full() {
		r.holders = without(r.holders, p)
	}
	for _, q := range m.links {
		if o := r.members[q]; o != nil {
			o.degree--
			o.links = without(o.links, p)
		}
	}
	last := r.all[len(r.all)-1]
	r.all[m.atAll], last.atAll = last, m.atAll
	r.all = r.all[:len(r.all)-1]
	z := r.zones[m.zone]
	last = z.members[len(z.members)-1]
	z.members[m.atZone], last.atZone = last, m.atZone
	z.members = z.members[:len(z.members)-1]
	r.seeder.RemoveTarget(p)
	if z.importer == m {
		z.importer = nil
	}
	if z.target == p {
		z.target = none
	}
	if len(z.members) == 0 {
		delete(r.zones, m.zone)
	}
	if m.zone != r.cfg.Zone {
		r.retarget(m.zone)
	} else if !m.owner {
		if r.home--; r.home == 0 {
			r.retarget(m.zone)
		}
	}
}

func without(list []Peer, p Peer) []Peer {
	for i, q := range list {
		if q == p {
			list[i] = list[len(list)-1]
			return list[:len(list)-1]
		}
	}
	return list
}

// Have says that a member has these pieces now: the owner itself, one that acknowledges a
// push, or a neighbour of the owner. It keeps Missing and Holders right. Members need not report
// each piece to the owner.
func (r *Register) Have(p Peer, pieces []uint32) {
	if m, ok := r.members[p]; ok {
		for _, i := range pieces {
			if int64(i) < int64(r.cfg.Pieces) {
				r.note(m, int(i))
			}
		}
	}
}

// Missing is the pieces that no member has said to have. An owner that has taken over reads
// only these from the upstream, once the members have joined with their bitmaps.
func (r *Register) Missing() *piece.Bitmap {
	b := piece.NewBitmap(r.cfg.Pieces)
	for i, n := range r.had {
		if n == 0 && (r.owner == nil || !r.owner.have.Has(i)) {
			b.Set(i)
		}
	}
	return b
}

// Holders is the members that have the whole blob. The slice is valid until the next call.
func (r *Register) Holders() []Peer { return r.holders }

// Len is the number of members.
func (r *Register) Len() int { return len(r.all) }

// More gives a member up to n neighbours beyond those that it has been given. With
// stalled they may be of any zone, from then on.
func (r *Register) More(p Peer, n int, stalled bool) []Peer {
	m, ok := r.members[p]
	if !ok {
		return nil
	}
	m.stalled = m.stalled || stalled
	return r.introduce(m, n, true)
}
