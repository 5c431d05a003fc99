package trust

import (
	"bytes"
	"context"
	"errors"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// letIn counts a use of the token for who asks, unless it was counted before, and binds the id of the node to its key. Of
// two with one id the first wins.
//
// The use is counted in the token's record, with who it was counted for; after that, the node's record is made. Who counts
// the next use makes the record of the one before first, if that one did not come so far: so each is counted once, and
// answers that get lost cost nothing.
func (t *Trust) letIn(ctx context.Context, l Ledger, token string, r request) error {
	if err := take(ctx, t.clerk.counts); err != nil {
		return err
	}
	defer func() { <-t.clerk.counts }()
	key := r.keyPrint()
	for {
		node, index, err := load(ctx, l, nodesKey+r.id(), checkNodeRecord)
		if err != nil {
			return err
		}
		if index != 0 && !bytes.Equal(node.GetKeySha256(), key[:]) {
			return ErrTaken
		}
		counted := index != 0 && node.GetToken() == token
		if err := t.countUse(ctx, l, token, r, counted); err != nil || counted {
			return err
		}
		err = bind(ctx, l, r.id(), key[:], token, t.nextEnd(), index)
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
}

// countUse counts that the node uses the token; counted says that it is known to have been.
func (t *Trust) countUse(ctx context.Context, l Ledger, token string, r request, counted bool) error {
	key := r.keyPrint()
	_, err := change(ctx, l, tokensKey+token, checkTokenRecord, func(rec *trustpb.TokenRecord, there bool) (verdict, error) {
		switch {
		case !there:
			return leave, ErrBadToken
		case time.Now().UnixNano() >= rec.GetExpires():
			return leave, ErrTokenExpired
		case counted || rec.GetLastNode() == r.id() && bytes.Equal(rec.GetLastKey(), key[:]):
			return leave, nil
		case rec.GetUsed() >= rec.GetUses():
			return leave, ErrTokenUsedUp
		}
		if last := rec.GetLastNode(); last != "" {
			if err := bind(ctx, l, last, rec.GetLastKey(), token, t.nextEnd(), 0); err != nil && !errors.Is(err, ErrChanged) {
				return leave, err
			}
		}
		rec.Used++
		rec.LastNode, rec.LastKey = r.id(), key[:]
		return put, nil
	})
	return err
}

// forget takes a node's last uses of tokens out of their records, so that it cannot come back by them.
func (p *Parts) forget(ctx context.Context, node string) error {
	tokens, err := p.tokens(ctx)
	if err != nil {
		return err
	}
	for id, r := range tokens {
		if r.GetLastNode() != node {
			continue
		}
		_, err := change(ctx, p.Ledger, tokensKey+id, checkTokenRecord, func(r *trustpb.TokenRecord, there bool) (verdict, error) {
			if !there || r.GetLastNode() != node {
				return leave, nil
			}
			r.LastNode, r.LastKey = "", nil
			return put, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
