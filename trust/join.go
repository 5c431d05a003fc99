package trust

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Pauses between rounds in which no address gave what was asked for.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
	askTimeout = 2*doorPatience + dialTimeout // one address in all
)

// Join makes this node a member by a token, through the join door of any member: addresses are the hosts and ports of
// gossip. It keeps trying until ctx ends, unless the farm decides against this node: ErrBadToken, ErrTokenExpired,
// ErrTokenUsedUp, ErrRevoked, ErrTaken and ErrBadRequest say so. Nothing is sent to who does not show the authority that
// the token names. Asking again after an answer was lost costs no other use of the token.
func (t *Trust) Join(ctx context.Context, token Token, addresses []string) error {
	if t.Mode() != Auto {
		return fmt.Errorf("join: %w", errNoTokens)
	}
	csr, err := t.request() // on disk before anybody is asked
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	q := &trustpb.Question{Kind: &trustpb.Question_Join_{Join: &trustpb.Question_Join{Token: token.Text(), Request: csr}}}
	err = t.knock(ctx, addresses, func(ctx context.Context, address string) error {
		g, root, err := t.askDoor(ctx, address, q, func(ctx context.Context, raw net.Conn) (*doorConn, error) {
			return t.dialDoor(ctx, raw, token.Fingerprint())
		})
		if err != nil {
			return err
		}
		return t.takeJoin(ctx, g, root)
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// takeJoin makes this node what the answer says. The authority that was pinned is one of the state's, or the farm has moved
// on to others, which it vouches for.
func (t *Trust) takeJoin(ctx context.Context, g *trustpb.Grant, root []byte) error {
	state, err := stateIn(g.GetState())
	if err != nil {
		return err
	}
	if !hasAuthority(state.CAs, root) {
		return errors.New("the answer is of another authority than the one that was shown")
	}
	if err := t.apply(ctx, state); err != nil {
		return err
	}
	if !hasAuthority(t.State().CAs, root) { // this node was in another farm before
		if err := t.startAnew(state); err != nil {
			return err
		}
	}
	return t.SetCertificate(g.GetChain())
}

// startAnew makes s the state although its epoch may be lower than that of the farm where this node was before.
func (t *Trust) startAnew(s State) error {
	v, err := newView(s)
	if err != nil {
		return err
	}
	defer t.takeTurn()()
	t.useView(v)
	t.dues.owe(dueState)
	t.write()
	return nil
}

// knock tries one address after the other, in rounds, until one does it, the farm has decided, or ctx ends.
func (t *Trust) knock(ctx context.Context, addresses []string, try func(ctx context.Context, address string) error) error {
	if len(addresses) == 0 {
		return errors.New("no address of a member is known")
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := t.knockOnce(ctx, addresses, try)
		if err == nil || definite(err) {
			return err
		}
		if pauseFor(ctx, pause+rand.N(pause)) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// knockOnce is one round. The error has what is wrong with each address.
func (t *Trust) knockOnce(ctx context.Context, addresses []string, try func(ctx context.Context, address string) error) error {
	var errs []error
	for _, address := range addresses {
		if ctx.Err() != nil {
			break
		}
		err := try(ctx, address)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("ask at %s: %w", address, err)
		if definite(err) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// askDoor asks one question at the join door at address. The answer is vouched for by the authority that the door has
// shown, or by one that this node goes by; root is the one that the door has shown, if it was pinned.
func (t *Trust) askDoor(ctx context.Context, address string, q *trustpb.Question, shake func(context.Context, net.Conn) (*doorConn, error)) (g *trustpb.Grant, root []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	dialing, dialed := context.WithTimeout(ctx, dialTimeout)
	defer dialed()
	raw, err := t.clerk.dial(dialing, address)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	c, err := shake(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	if err := writeMessage(c, q); err != nil {
		return nil, nil, err
	}
	a := new(trustpb.Answer)
	if err := readMessage(c, a); err != nil {
		return nil, nil, err
	}
	if err := refusalIn(a); err != nil {
		return nil, nil, err
	}
	authorities := t.State().CAs
	if c.Root != nil {
		authorities = [][]byte{c.Root}
	}
	g, err = granted(a, q, authorities)
	return g, c.Root, err
}
