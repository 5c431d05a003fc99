package trust

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// How a rotation goes on.
const (
	stepPatience = 30 * time.Second // after which a step is taken although not all members have told that they are so far
	stepLook     = 500 * time.Millisecond
	nextInLine   = 3 * time.Second // by which a voter waits longer than the one before it
)

// RotateGossipKey has the farm take another key for gossip: the new one is added behind the old one, then used for sending,
// then the old one is dropped. Each step is taken when all members are so far, or after half a minute. It returns when the
// rotation is written down; voters take its steps, whichever of them are up.
func (t *Trust) RotateGossipKey(ctx context.Context) error {
	p, err := t.partsOfAuto()
	if err != nil {
		return fmt.Errorf("rotate the gossip key: %w", err)
	}
	_, err = p.changeBook(ctx, func(b *trustpb.Book, there bool) (verdict, error) {
		if !there {
			return leave, errNoBook
		}
		want(b)
		return put, nil
	})
	if err != nil {
		return fmt.Errorf("rotate the gossip key: %w", err)
	}
	t.announce(ctx, p)
	return nil
}

// want asks for a rotation. One that is under way goes on first: a node that is shut out may know its key.
func want(b *trustpb.Book) {
	if b.Rotation == nil {
		b.Rotation = &trustpb.Rotation{}
	}
	b.Rotation.Wanted++
}

// rotating is what this voter has seen of a rotation. Clocks of voters may differ, so each goes by how long it has seen a
// step itself.
type rotating struct {
	epoch uint64
	seen  time.Time
}

// rotate takes the next step of a rotation when its time has come, and says when to look again; 0: there is none.
func (k *keeping) rotate(ctx context.Context, s *signer, b *trustpb.Book) time.Duration {
	r := b.GetRotation()
	if r.GetStep() == trustpb.Rotation_STEP_UNSPECIFIED && r.GetWanted() <= r.GetBegun() {
		return 0
	}
	if k.turning.epoch != b.GetEpoch() {
		k.turning = rotating{b.GetEpoch(), time.Now()}
	}
	if !k.ready(b) {
		return stepLook
	}
	t := k.t
	next, err := k.p.changeBook(ctx, func(now *trustpb.Book, _ bool) (verdict, error) {
		if now.GetEpoch() != b.GetEpoch() {
			return leave, nil // another voter was faster
		}
		return put, s.step(now, t.Node())
	})
	if err == nil {
		err = t.takeBook(ctx, s, next)
	}
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelWarn, "rotation of the gossip key held up", slog.Any("error", err))
		return stepLook
	}
	if next.GetRotation().GetBy() == t.Node() && next.GetEpoch() == b.GetEpoch()+1 {
		t.log.LogAttrs(ctx, slog.LevelInfo, "step in the rotation of the gossip key",
			slog.String("step", next.GetRotation().GetStep().String()), slog.Uint64("epoch", next.GetEpoch()))
		t.nudge(ctx, k.p, next.GetEpoch())
	}
	return stepLook
}

// ready tells whether this voter is to take the next step now: all members are so far or were waited for, and the voters
// that go first have not done it.
func (k *keeping) ready(b *trustpb.Book) bool {
	waited := time.Since(k.turning.seen)
	line := time.Duration(k.place(b.GetRotation().GetBy())) * nextInLine
	if b.GetRotation().GetStep() == trustpb.Rotation_STEP_UNSPECIFIED { // nobody needs to be anywhere
		return waited >= line
	}
	for _, m := range k.p.Farm.Members() {
		if m.ID != k.t.Node() && m.Epoch < b.GetEpoch() && !shutsOut(b, m.ID) {
			return waited >= stepPatience+line
		}
	}
	return waited >= line
}

// place is how many voters go before this one: who took the last step, then all by their ids.
func (k *keeping) place(by string) int {
	ids := []string{k.t.Node()}
	for _, v := range k.p.Farm.Voters() {
		if v.ID != k.t.Node() {
			ids = append(ids, v.ID)
		}
	}
	slices.SortFunc(ids, func(x, y string) int {
		switch {
		case x == by:
			return -1
		case y == by || x > y:
			return 1
		}
		return -1
	})
	return slices.Index(ids, k.t.Node())
}

// step is one step of the rotation in b.
func (s *signer) step(b *trustpb.Book, by string) error {
	keys, err := s.keysOf(b)
	if err != nil {
		return err
	}
	r := b.GetRotation()
	switch r.GetStep() {
	case trustpb.Rotation_STEP_ADDED:
		last := len(keys) - 1
		keys = append([][]byte{keys[last]}, keys[:last]...)
		r.Step = trustpb.Rotation_STEP_FIRST
	case trustpb.Rotation_STEP_FIRST:
		keys = keys[:1]
		r.Step = trustpb.Rotation_STEP_UNSPECIFIED
	default:
		keys = append(keys[:min(len(keys), maxGossipKeys-1)], newGossipKey())
		r.Step, r.Begun = trustpb.Rotation_STEP_ADDED, r.GetWanted()
	}
	r.By, r.Since = by, time.Now().UnixNano()
	return s.setKeys(b, keys)
}
