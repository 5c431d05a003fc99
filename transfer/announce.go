package transfer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/ring"
)

const (
	// announceEvery is how often new holdings are told to their owners, and how often the owners are looked at.
	announceEvery = 500 * time.Millisecond
	// announceTimeout bounds one message, and roundTimeout all that are for one member.
	announceTimeout, roundTimeout = 3 * time.Second, 15 * time.Second
	// slowestRetry is how long a member that could not be told is left alone at most.
	slowestRetry = 15 * time.Second
	// maxTelling is how many members are told at once.
	maxTelling = 32
)

// A teller tells the owners what this node has: all of it when the ring or an owner's boot id has changed, and else what
// came and went. Each member is told on its own, so that a slow one delays nobody.
type teller struct {
	e     *Engine
	kick  chan struct{}
	slots chan struct{}
	group sync.WaitGroup

	mu      sync.Mutex
	turn    uint64
	changed map[oci.Digest]uint64 // stored or dropped here and not told yet, and when
	members map[string]*told
}

// told is what a member has heard.
type told struct {
	heard life // in which it has heard all
	busy  bool

	trying life // that the next try is for; another one is tried at once
	next   time.Time
	wait   time.Duration
}

// A life is one run of a member, and the ring that this node goes by.
type life struct {
	boot string
	ring uint64
}

var (
	errOtherRing = errors.New("the member goes by another ring")
	errUnknown   = errors.New("the member does not know this node")
)

func newTeller(e *Engine) *teller {
	return &teller{
		e: e, kick: make(chan struct{}, 1), slots: make(chan struct{}, maxTelling),
		changed: make(map[oci.Digest]uint64), members: make(map[string]*told),
	}
}

// note takes up a blob that has come or gone.
func (t *teller) note(d oci.Digest) {
	t.mu.Lock()
	t.turn++
	t.changed[d] = t.turn
	t.mu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// run works until ctx is done.
func (t *teller) run(ctx context.Context) {
	defer t.group.Wait()
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		t.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-t.kick:
		}
	}
}

// round begins to tell each member what it has not heard.
func (t *teller) round(ctx context.Context) {
	view, others := t.e.directory.View(), t.e.directory.Others()
	t.e.holders.prune(view)
	t.e.forgetStrangers(others, view)
	perOwner := t.changes(view)
	all := sync.OnceValue(func() map[string]*inventory { return t.take(view) })
	for _, n := range others {
		j := &telling{node: n, hash: view.Hash(), changes: perOwner[n.ID], all: all}
		if !t.begin(j) {
			continue
		}
		t.group.Go(func() {
			select {
			case t.slots <- struct{}{}:
				j.err = t.tell(ctx, j)
				<-t.slots
			case <-ctx.Done():
				j.err = ctx.Err()
			}
			t.end(ctx, j)
		})
	}
	t.forget(others)
}

// changes are the changes that are not told yet, by the owners that must hear of them.
func (t *teller) changes(view *ring.View) map[string]map[oci.Digest]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]map[oci.Digest]uint64)
	for d, turn := range t.changed {
		owner := view.Owner(d)
		if owner == t.e.cfg.Self.ID || owner == "" {
			delete(t.changed, d)
			continue
		}
		if out[owner] == nil {
			out[owner] = make(map[oci.Digest]uint64)
		}
		out[owner][d] = turn
	}
	return out
}

// A telling is what one member is told now.
type telling struct {
	node    Node
	hash    uint64
	changes map[oci.Digest]uint64
	all     func() map[string]*inventory
	whole   bool // all is told, and not the changes
	again   bool // it has failed before
	err     error
}

// begin tells whether a member is to be told something now, and takes its turn.
func (t *teller) begin(j *telling) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.members[j.node.ID]
	if m == nil {
		m = &told{}
		t.members[j.node.ID] = m
	}
	if now := (life{j.node.Boot, j.hash}); m.trying != now {
		m.trying, m.wait, m.next = now, 0, time.Time{}
	}
	j.whole, j.again = m.heard != life{j.node.Boot, j.hash}, m.wait > 0
	if m.busy || !j.whole && len(j.changes) == 0 || time.Now().Before(m.next) {
		return false
	}
	m.busy = true
	return true
}

// end notes how it went.
func (t *teller) end(ctx context.Context, j *telling) {
	if j.err != nil && ctx.Err() == nil {
		t.e.log.Debug("holdings not announced", slog.String("peer", j.node.ID), slog.Any("error", j.err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.members[j.node.ID]
	m.busy = false
	if j.err != nil {
		m.wait = min(max(2*m.wait, announceEvery), slowestRetry)
		m.next = time.Now().Add(m.wait)
		return
	}
	m.wait = 0
	if j.whole {
		m.heard = life{j.node.Boot, j.hash}
	}
	for d, turn := range j.changes {
		if t.changed[d] == turn {
			delete(t.changed, d)
		}
	}
}

// forget drops the records of members that are gone.
func (t *teller) forget(others []Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.members) <= len(others) {
		return
	}
	here := make(map[string]bool, len(others))
	for _, n := range others {
		here[n.ID] = true
	}
	for id, m := range t.members {
		if !here[id] && !m.busy {
			delete(t.members, id)
		}
	}
}

// An inventory is what this node has of one owner's blobs.
type inventory struct{ whole, parts []string }

// take makes the inventories of all owners.
func (t *teller) take(view *ring.View) map[string]*inventory {
	out := make(map[string]*inventory)
	of := func(d oci.Digest) *inventory {
		owner := view.Owner(d)
		if out[owner] == nil {
			out[owner] = &inventory{}
		}
		return out[owner]
	}
	t.e.store.Each(func(d oci.Digest, _ int64) bool {
		i := of(d)
		i.whole = append(i.whole, d.String())
		return true
	})
	for _, d := range t.e.parts() {
		if i := of(d); len(i.parts) < maxAnnounced {
			i.parts = append(i.parts, d.String())
		}
	}
	return out
}

// parts are the blobs that are on their way to this node, or of which an earlier fetch has left a part.
func (e *Engine) parts() []oci.Digest {
	var out []oci.Digest
	for _, t := range e.all() {
		if !t.isComplete() {
			out = append(out, t.digest)
		}
	}
	return append(out, e.store.Partials()...)
}

// tell tells one member all, or what has changed.
func (t *teller) tell(ctx context.Context, j *telling) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	p, err := t.e.peers.to(j.node.Address)
	if err != nil {
		return err
	}
	line := line{t.e, p, j.hash}
	if !j.whole {
		return line.changes(ctx, j.changes)
	}
	if j.again { // perhaps it went by another ring: that is asked first
		if err := line.send(ctx, &transferpb.AnnounceRequest{First: true}); err != nil {
			return err
		}
	}
	i := j.all()[j.node.ID]
	if i == nil {
		i = &inventory{}
	}
	return line.all(ctx, i)
}

// A line is the way to one member, for announcements by one ring.
type line struct {
	e    *Engine
	p    *peer
	hash uint64
}

// send says one message. It fails when the member goes by another ring.
func (l line) send(ctx context.Context, q *transferpb.AnnounceRequest) error {
	q.Node, q.Boot, q.RingHash = l.e.cfg.Self.ID, l.e.cfg.Self.Boot, l.hash
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	r, err := l.p.Announce(ctx, q)
	switch {
	case err != nil:
		return err
	case r.GetRingHash() == 0:
		return errUnknown
	case r.GetRingHash() != l.hash:
		return errOtherRing
	}
	return nil
}

// all says all that this node has, in as many messages as it takes.
func (l line) all(ctx context.Context, i *inventory) error {
	digests := i.whole
	for first := true; ; first = false {
		q := &transferpb.AnnounceRequest{Digests: digests[:min(len(digests), maxAnnounced)], First: first}
		digests = digests[len(q.Digests):]
		if q.Final = len(digests) == 0; q.Final {
			q.Fetching = i.parts
		}
		if err := l.send(ctx, q); err != nil || q.GetFinal() {
			return err
		}
	}
}

// changes says what came and went. A member that goes by another ring hears it too; it will hear all when the rings
// agree.
func (l line) changes(ctx context.Context, changed map[oci.Digest]uint64) error {
	q, n := &transferpb.AnnounceRequest{}, 0
	for d := range changed {
		if _, err := l.e.store.Stat(d); err == nil {
			q.Digests = append(q.Digests, d.String())
		} else {
			q.Dropped = append(q.Dropped, d.String())
		}
		if n++; n%maxAnnounced != 0 && n < len(changed) {
			continue
		}
		if err := l.send(ctx, q); err != nil && !errors.Is(err, errOtherRing) {
			return err
		}
		q = &transferpb.AnnounceRequest{}
	}
	return nil
}

// forgetStrangers closes the connections to nodes that are neither there nor have a place in the ring, nor take part in
// a swarm: one may have registered before gossip has told of it.
func (e *Engine) forgetStrangers(others []Node, view *ring.View) {
	known := make(map[string]bool)
	for _, n := range others {
		known[n.Address] = true
	}
	for _, m := range view.Members() {
		if n, ok := e.directory.Lookup(m.ID); ok {
			known[n.Address] = true
		}
	}
	for _, t := range e.all() {
		t.noteInUse(known)
	}
	e.peers.forget(func(address string) bool { return known[address] })
}

// noteInUse adds the addresses of the nodes that take part in the swarm.
func (t *task) noteInUse(addresses map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if m.inUse() {
			addresses[m.node.Address] = true
		}
	}
}
