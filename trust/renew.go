package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Pauses between tries to renew, and how often it is looked whether it is time: a host that was asleep has lost no more.
const (
	firstRenewPause = time.Minute
	lastRenewPause  = time.Hour
	renewLook       = time.Hour
)

// renewAt is when a certificate is renewed: after two thirds of its life.
func (t *Trust) renewAt() (at time.Time, ok bool) {
	c := t.Certificate()
	if c == nil {
		return time.Time{}, false
	}
	return t.renewalOf(c), true
}

// renewalOf is when a certificate is past two thirds of its life.
func (t *Trust) renewalOf(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-(c.NotAfter.Sub(c.NotBefore) - t.cfg.Back) / 3)
}

// Renew gets this node another certificate for its key when the one that it has is past two thirds of its life or has run
// out, by up to Config.Grace. It is for a node that starts: a voter renews its own by what it has on disk, others at the
// join doors at addresses, the hosts and ports of gossip. It keeps trying until ctx ends; ErrRevoked, ErrTaken and ErrTooOld
// say that the farm has decided against this node. A node that has no certificate gets ErrNotMember.
func (t *Trust) Renew(ctx context.Context, addresses []string) error {
	at, ok := t.renewAt()
	switch {
	case t.Mode() != Auto:
		return nil
	case !ok:
		return fmt.Errorf("renew the certificate: %w", ErrNotMember)
	case time.Now().Before(at):
		return nil
	}
	err := t.renewHere(ctx)
	if err != nil && !definite(err) {
		err = t.knock(ctx, addresses, t.renewAtDoor)
	}
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	return nil
}

// keepRenewed renews in time, until ctx ends.
func (t *Trust) keepRenewed(ctx context.Context) error {
	early := rand.Float64() // so that nodes that were made together are not renewed together
	pause := firstRenewPause
	for {
		wait := renewLook
		if at, ok := t.renewAt(); ok {
			at = at.Add(time.Duration(early * float64(t.cfg.Lifetime) / 20))
			wait = min(wait, time.Until(at))
		}
		if wait <= 0 {
			err := t.renewOnce(ctx)
			if wait = 0; err != nil {
				t.noteNotRenewed(ctx, err)
				wait = pause/2 + rand.N(pause/2)
				pause = min(2*pause, lastRenewPause)
			} else {
				pause = firstRenewPause
			}
		}
		if err := pauseFor(ctx, wait); err != nil {
			return err
		}
	}
}

func (t *Trust) noteNotRenewed(ctx context.Context, err error) {
	level := slog.LevelWarn
	if !t.Member() || definite(err) {
		level = slog.LevelError
	}
	t.log.LogAttrs(ctx, level, "certificate not renewed", slog.Time("ends", t.Certificate().NotAfter), slog.Any("error", err))
}

// renewOnce tries all ways once: by this node itself, by a voter that can be called, and at join doors.
func (t *Trust) renewOnce(ctx context.Context) error {
	err := t.renewHere(ctx)
	if err == nil || definite(err) {
		return err
	}
	p, partsErr := t.parts()
	if partsErr != nil {
		return partsErr
	}
	if t.Member() {
		if err = t.renewByCall(ctx); err == nil || definite(err) {
			return err
		}
	}
	if p.Addresses == nil {
		return err
	}
	doorErr := t.knockOnce(ctx, p.doors(), t.renewAtDoor)
	if doorErr == nil || definite(doorErr) {
		return doorErr
	}
	return errors.Join(err, doorErr)
}

// renewal asks for a certificate for the key that this node has.
func (t *Trust) renewal() (*trustpb.Question, error) {
	csr, err := t.request()
	if err != nil {
		return nil, err
	}
	return &trustpb.Question{Kind: &trustpb.Question_Renewal_{Renewal: &trustpb.Question_Renewal{Request: csr}}}, nil
}

// renewHere renews with the authority that this node has: it proves nothing to itself, but goes by the same rules.
func (t *Trust) renewHere(ctx context.Context) error {
	s, err := t.signer()
	if err != nil {
		return err
	}
	if s == nil {
		return errElsewhere
	}
	q, err := t.renewal()
	if err != nil {
		return err
	}
	a, err := t.answer(ctx, s, q, applicant{leaf: t.Certificate()})
	if err != nil {
		return err
	}
	return t.takeAnswer(ctx, q, a)
}

func (t *Trust) renewByCall(ctx context.Context) error {
	q, err := t.renewal()
	if err != nil {
		return err
	}
	a, err := t.askVoters(ctx, q, applicant{leaf: t.Certificate()})
	if err != nil {
		return err
	}
	return t.takeAnswer(ctx, q, a)
}

func (t *Trust) takeAnswer(ctx context.Context, q *trustpb.Question, a *trustpb.Answer) error {
	g, err := granted(a, q, t.State().CAs)
	if err != nil {
		return err
	}
	return t.takeRenewal(ctx, g)
}

func (t *Trust) renewAtDoor(ctx context.Context, address string) error {
	q, err := t.renewal()
	if err != nil {
		return err
	}
	g, _, err := t.askDoor(ctx, address, q, t.dialDoorToRenew)
	if err != nil {
		return err
	}
	return t.takeRenewal(ctx, g)
}

// takeRenewal makes the new certificate the one that is shown.
func (t *Trust) takeRenewal(ctx context.Context, g *trustpb.Grant) error {
	if err := t.takeState(ctx, g.GetState()); err != nil {
		return err
	}
	if err := t.SetCertificate(g.GetChain()); err != nil {
		return err
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "certificate renewed", slog.String("peer", t.Node()), slog.Time("ends", t.Certificate().NotAfter))
	return nil
}

// takeState makes the state that a peer has told the one of this node, if it is newer.
func (t *Trust) takeState(ctx context.Context, r *trustpb.StateReply) error {
	state, err := stateIn(r)
	if err != nil {
		return err
	}
	return t.apply(ctx, state)
}

// lookAtDoor asks for the state at the join door at address.
func (t *Trust) lookAtDoor(ctx context.Context, address string) error {
	q := &trustpb.Question{Kind: &trustpb.Question_Look_{Look: &trustpb.Question_Look{}}}
	g, _, err := t.askDoor(ctx, address, q, t.dialDoorToRenew)
	if err != nil {
		return err
	}
	return t.takeState(ctx, g.GetState())
}
