package trust

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

var errOtherFarm = errors.New("the catalog is of a farm with another authority")

// signsFor tells whether the book is of the farm that s has the authority of.
func (s *signer) signsFor(b *trustpb.Book) bool {
	return slices.ContainsFunc(b.GetAuthorities(), func(a *trustpb.Authority) bool {
		return bytes.Equal(a.GetCertificate(), s.issuer.certificate())
	})
}

// fresh makes this node's state one of an epoch that is at least atLeast, or, when that is 0, as the catalog has it now.
func (t *Trust) fresh(ctx context.Context, s *signer, atLeast uint64) error {
	p, err := t.parts()
	if err != nil {
		return err
	}
	if err := take(ctx, t.clerk.reading); err != nil {
		return err
	}
	defer func() { <-t.clerk.reading }()
	if atLeast > 0 && t.State().Epoch >= atLeast {
		return nil
	}
	book, index, err := p.readBook(ctx)
	if err != nil {
		return err
	}
	if index == 0 {
		return errNoBook
	}
	return t.takeBook(ctx, s, book)
}

// takeBook makes a book the state of this node, unless it has a newer one.
func (t *Trust) takeBook(ctx context.Context, s *signer, b *trustpb.Book) error {
	if b.GetEpoch() <= t.State().Epoch {
		return nil
	}
	state := State{Epoch: b.GetEpoch()}
	state.takeRevocations(b.GetRevoked()) // all that a site's PKI leaves to the farm
	if s != nil {
		if !s.signsFor(b) {
			return errOtherFarm
		}
		var err error
		if state, err = s.stateOf(b); err != nil {
			return err
		}
		defer t.clerk.look() // there may be a rotation to go on with
	}
	return t.apply(ctx, state)
}

// apply makes s the state of this node, if it is newer, and tells the node.
func (t *Trust) apply(ctx context.Context, s State) error {
	if err := take(ctx, t.clerk.turn); err != nil {
		return err
	}
	defer func() { <-t.clerk.turn }()
	changed, err := t.SetState(s)
	if err != nil || !changed {
		return err
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "the farm's trust has changed",
		slog.Uint64("epoch", s.Epoch), slog.Int("revoked", len(s.Revoked)), slog.Int("gossip_keys", len(s.GossipKeys)))
	t.tell()
	return nil
}

// tell tells the node of its state. The caller has the turn.
func (t *Trust) tell() {
	if p, _ := t.parts(); p != nil && p.Changed != nil {
		p.Changed(t.State())
	}
}
