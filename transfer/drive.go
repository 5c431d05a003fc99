package transfer

import (
	"context"
	"time"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

// idleLook is how often the driver looks although nothing happened: a peer may have gone quiet.
const idleLook = time.Second

// drive gives the swarm's logic its clock: it asks what to do now, sets it going and sleeps until something happens.
func (t *task) drive(ctx context.Context) {
	timer := time.NewTimer(idleLook)
	defer timer.Stop()
	for {
		wait := t.look(ctx)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-t.kick:
		case <-t.changed():
		case <-timer.C:
		}
	}
}

// look does what is to be done now and says how long nothing is to be done after that.
func (t *task) look(ctx context.Context) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher == nil || t.done {
		return idleLook
	}
	now := t.e.now()
	t.slots.empty(t.uploads)
	t.noteProgress(now)
	t.confine()
	if t.fetcher.Starving(now) {
		t.goAbroad()
	}
	for _, r := range t.fetcher.Next(now, t.allowed()) {
		t.request(ctx, r)
	}
	for _, r := range t.fetcher.Cancels() {
		t.drop(r)
	}
	t.seed(ctx, now)
	t.tell(now)
	return t.sleep(now)
}

// firstFew is how many pieces a node asks for before it has any: all at once would delay the one that the client waits
// for.
const firstFew = 2

// allowed is how many pieces may be asked for now. The caller holds mu.
func (t *task) allowed() int {
	if t.held {
		return 0 // nobody here wants it
	}
	room := t.e.room(t.list.PieceSize())
	if t.fetcher.Count() == 0 {
		room = min(room, max(0, firstFew-t.fetcher.Outstanding()))
	}
	return room
}

// sleep is how long until the logic wants to be asked again. The caller holds mu.
func (t *task) sleep(now time.Duration) time.Duration {
	wait := idleLook
	if at, ok := t.fetcher.NextWake(now); ok {
		wait = min(wait, at-now)
	}
	if t.register != nil {
		if at, ok := t.register.Seeder().NextWake(now); ok {
			wait = min(wait, at-now)
		}
	}
	return max(wait, 200*time.Microsecond)
}

// noteProgress tells the logic which of the pieces on their way still move. The caller holds mu.
func (t *task) noteProgress(now time.Duration) {
	clock := time.Now()
	for r := range t.cancels {
		if m := t.members[r.Peer]; m != nil && m.peer().quiet(clock) < t.e.cfg.PieceTimeout/4 {
			t.fetcher.Progress(r.Peer, r.Piece, now)
		}
	}
	if t.register == nil {
		return
	}
	for p := range t.pushing {
		if m := t.members[p.Peer]; m != nil && m.peer().quiet(clock) < t.e.cfg.PieceTimeout/4 {
			t.register.Seeder().Progress(p.Peer, p.Piece, now)
		}
	}
}

// drop cancels a request. The caller holds mu.
func (t *task) drop(r swarm.Request) {
	for have, cancel := range t.cancels {
		if have.Peer == r.Peer && have.Piece == r.Piece {
			cancel()
			delete(t.cancels, have)
		}
	}
}

// seed starts the pushes that are due. The caller holds mu.
func (t *task) seed(ctx context.Context, now time.Duration) {
	if t.register == nil || !t.seeds() {
		return
	}
	s := t.register.Seeder()
	for _, p := range s.Next(now, min(t.uploads.Free(), t.e.sendRoom(t.list.PieceSize()))) {
		t.push(ctx, p)
	}
	for _, p := range s.Overdue() {
		if cancel := t.pushing[p]; cancel != nil {
			cancel()
		}
	}
}

// tell sends the neighbours what they have not heard. The caller holds mu.
func (t *task) tell(now time.Duration) {
	seeding := t.seeding()
	changed := seeding != t.seedState
	t.seedState = seeding
	for _, b := range t.fetcher.Haves(now) {
		t.say(b.Peer, b.Pieces, seeding)
	}
	if changed {
		for p := range t.members {
			t.say(p, nil, seeding)
		}
	}
}

// seeding tells whether this node still hands out pieces that have never left it. The caller holds mu.
func (t *task) seeding() bool {
	return t.register != nil && t.seeds() && !t.register.Seeder().Done() && t.guests() > 0
}

// seeds tells whether this node has pieces that nobody else in its swarm, or in its zone, has. The caller holds mu.
func (t *task) seeds() bool { return t.meeting || t.imports }

func (t *task) say(p swarm.Peer, pieces []uint32, seeding bool) {
	m := t.members[p]
	if m == nil || len(m.outs) == 0 {
		return
	}
	h := &transferpb.Haves{Load: int32(t.uploads.Load()), Seeding: seeding}
	h.Pieces = append(h.Pieces, pieces...)
	m.outs[0].put(h)
}

// room is how many more pieces may be on their way to this node. What comes from the upstream counts too, but leaves
// a quarter of the budget to what comes from peers.
func (e *Engine) room(pieceSize int64) int {
	all, peers := e.cfg.Budget, e.budget.Load()
	return max(0, int(max(all/4-peers, all-peers-e.feeding.Load())/max(pieceSize, 1)))
}

// sendRoom is how many more pieces may be on their way from this node: a quarter of the budget, which fills any link.
func (e *Engine) sendRoom(pieceSize int64) int {
	return max(0, int((e.cfg.Budget/4-e.sending.Load())/max(pieceSize, 1)))
}
