package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// manyRevoked is from how many revocations on those are forgotten that are not needed any more.
const manyRevoked = 256

// Revoke shuts a node out of the farm, for good: its connections are closed, its certificate is void, and it can neither
// renew nor join again before Readmit. The gossip key is rotated, as the node knows it. When it returns the farm has agreed
// on it, and all members that could be reached were told. A node that is not there can be revoked; so can one that was
// never known, for nobody can tell.
func (t *Trust) Revoke(ctx context.Context, node string) error {
	p, err := t.mayShutOut(node)
	if err != nil {
		return fmt.Errorf("revoke node %.64q: %w", node, err)
	}
	voter := p.Farm.IsVoter(node)
	if err := t.refill(ctx, p); err != nil {
		return fmt.Errorf("revoke node %s: %w", node, err)
	}
	_, err = p.changeBook(ctx, func(b *trustpb.Book, there bool) (verdict, error) {
		if !there && t.Mode() == Auto {
			return leave, errNoBook
		}
		if shutsOut(b, node) {
			return leave, nil
		}
		t.forgetOld(b)
		b.Revoked = slices.DeleteFunc(b.GetRevoked(), func(r *trustpb.Revocation) bool { return r.GetNode() == node })
		b.Revoked = append(b.Revoked, &trustpb.Revocation{Node: node, At: time.Now().UnixNano()})
		if t.Mode() == Auto {
			want(b)
		}
		return put, nil
	})
	if err != nil {
		return fmt.Errorf("revoke node %s: %w", node, err)
	}
	t.log.LogAttrs(ctx, slog.LevelWarn, "node revoked", slog.String("peer", node))
	if voter && t.Mode() == Auto {
		t.log.LogAttrs(ctx, slog.LevelError, "the revoked node was a voter: who has its disk can make certificates of this farm", slog.String("peer", node))
	}
	t.announce(ctx, p)
	return nil
}

// refill brings what this node knows into a catalog that was lost, so that no newer epoch hides it.
func (t *Trust) refill(ctx context.Context, p *Parts) error {
	s, err := t.signer()
	if err != nil {
		return err
	}
	if why := t.Apart(); why != "" {
		return errors.New(why)
	}
	if known := t.State(); known.Epoch > 0 && (s != nil || t.Mode() == Own) {
		_, err = t.restore(ctx, p, s, known)
	}
	return err
}

func (t *Trust) mayShutOut(node string) (*Parts, error) {
	if err := checkName(node); err != nil {
		return nil, fmt.Errorf("the id %w", err)
	}
	if node == t.Node() {
		return nil, errors.New("it is this one: do it from another node")
	}
	return t.parts()
}

// forgetOld makes room in a long list: a certificate that can neither be used nor renewed any more needs no revocation.
func (t *Trust) forgetOld(b *trustpb.Book) {
	many := len(b.GetRevoked()) >= manyRevoked
	before := time.Now().Add(-t.cfg.Lifetime - t.cfg.Grace - t.cfg.Back).UnixNano()
	b.Revoked = slices.DeleteFunc(b.GetRevoked(), func(r *trustpb.Revocation) bool {
		return r.GetAt() < before && (many || r.GetLifted())
	})
}

// Readmit lets a node that was revoked join again, with a token and with any key.
func (t *Trust) Readmit(ctx context.Context, node string) error {
	p, err := t.mayShutOut(node)
	if err == nil {
		err = t.readmit(ctx, p, node)
	}
	if err != nil {
		return fmt.Errorf("readmit node %.64q: %w", node, err)
	}
	t.log.LogAttrs(ctx, slog.LevelWarn, "node may join again", slog.String("peer", node))
	t.announce(ctx, p)
	return nil
}

func (t *Trust) readmit(ctx context.Context, p *Parts, node string) error {
	// While it is revoked nothing can bind its id again.
	if err := p.forget(ctx, node); err != nil {
		return err
	}
	_, err := change(ctx, p.Ledger, nodesKey+node, anyNode, func(_ *trustpb.NodeRecord, there bool) (verdict, error) {
		if !there {
			return leave, nil
		}
		return remove, nil
	})
	if err != nil {
		return err
	}
	_, err = p.changeBook(ctx, func(b *trustpb.Book, _ bool) (verdict, error) {
		if !shutsOut(b, node) {
			return leave, nil
		}
		b.Revoked = lift(b.GetRevoked(), node, t.Mode() == Auto)
		return put, nil
	})
	return err
}

// lift takes a node's revocation back. Its certificates from before stay void, but for those of a site's PKI, of which it
// need not get another.
func lift(list []*trustpb.Revocation, node string, void bool) []*trustpb.Revocation {
	for _, r := range list {
		r.Lifted = r.GetLifted() || void && r.GetNode() == node
	}
	return slices.DeleteFunc(list, func(r *trustpb.Revocation) bool { return r.GetNode() == node && !r.GetLifted() })
}

// anyNode lets records through that are only to be taken away.
func anyNode(*trustpb.NodeRecord) error { return nil }
