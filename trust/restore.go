package trust

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// sameFarm tells whether the catalog is of the farm that this node has the authority of. If not, this node was founded in
// vain: it changes nothing and says so.
func (t *Trust) sameFarm(ctx context.Context, s *signer, b *trustpb.Book) bool {
	if s.signsFor(b) {
		t.setApart("")
		return true
	}
	theirs := "none"
	if list := b.GetAuthorities(); len(list) > 0 {
		theirs = fingerprintOf(list[0].GetCertificate()).String()
	}
	why := fmt.Sprintf("this node has founded a farm of its own (authority %s), but the catalog is of another one (authority %s): "+
		"stop the node, take away the folder trust in its data directory, and have it join with a token", s.issuer.fingerprint(), theirs)
	t.setApart(why)
	t.log.LogAttrs(ctx, slog.LevelError, "this node keeps apart from the farm", slog.String("reason", why))
	return false
}

// restore puts what this node knows into a catalog that knows less.
func (t *Trust) restore(ctx context.Context, p *Parts, s *signer, known State) (*trustpb.Book, error) {
	return p.changeBook(ctx, func(b *trustpb.Book, there bool) (verdict, error) {
		if b.GetEpoch() >= known.Epoch || there && s != nil && !s.signsFor(b) {
			return leave, nil
		}
		var all State
		all.takeRevocations(b.GetRevoked())
		maps.Copy(all.Revoked, known.Revoked)
		maps.Copy(all.Void, known.Void)
		b.Revoked = all.revocations()
		b.Epoch = known.Epoch
		if there {
			b.Epoch++
		}
		if s == nil {
			return put, nil
		}
		return put, s.restore(b, known, there)
	})
}

// restore fills in what only who can sign knows.
func (s *signer) restore(b *trustpb.Book, known State, there bool) error {
	keys := slices.Clone(known.GossipKeys)
	if there {
		theirs, err := s.keysOf(b)
		if err != nil {
			return err
		}
		for _, key := range theirs {
			if !hasAuthority(keys, key) && len(keys) < maxGossipKeys-1 {
				keys = append(keys, key)
			}
		}
	} else {
		sealed, err := s.issuer.sealed(s.key)
		if err != nil {
			return err
		}
		b.Authorities = []*trustpb.Authority{{Certificate: s.issuer.certificate(), Key: sealed}}
	}
	if len(keys) > 1 { // a rotation was under way, or two lists have met: one key is to stay
		b.Rotation = &trustpb.Rotation{Wanted: b.GetRotation().GetWanted() + 1, Begun: b.GetRotation().GetBegun()}
	}
	return s.setKeys(b, keys)
}
