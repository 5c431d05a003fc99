package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// ledgerPatience is how long a voter waits for the catalog before it renews by what is on its disk.
const ledgerPatience = 2500 * time.Millisecond

// An applicant is who asks a question: the certificate that it has shown, which proves that it is a member, or nil. caller is
// the member whose call it is, or "": a question may be another's that was passed on.
type applicant struct {
	leaf   *x509.Certificate
	caller string
}

// answer answers a question as a voter that can sign does. The error says why there is no certificate.
func (t *Trust) answer(ctx context.Context, s *signer, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	switch {
	case q.GetJoin() != nil:
		return t.answerJoin(ctx, s, q)
	case q.GetRenewal() != nil:
		return t.answerRenewal(ctx, s, q, who)
	case q.GetLook() != nil:
		return t.answerLook(ctx, s, q, who)
	case q.GetServe() != nil:
		return t.answerServe(ctx, s, q, who)
	}
	return nil, ErrBadRequest
}

// answerJoin lets a node in that has a token. What is cheap is looked at first, and a wrong token costs the catalog nothing.
func (t *Trust) answerJoin(ctx context.Context, s *signer, q *trustpb.Question) (*trustpb.Answer, error) {
	p, err := t.parts()
	if err != nil {
		return nil, err
	}
	token, err := t.knownToken(ctx, p, q.GetJoin().GetToken())
	if err != nil {
		return nil, err
	}
	if err := take(ctx, t.clerk.answers); err != nil {
		return nil, err
	}
	defer func() { <-t.clerk.answers }()
	r, err := parseRequest(q.GetJoin().GetRequest())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	book, index, err := p.readBook(ctx)
	switch {
	case err != nil:
		return nil, err
	case index == 0:
		return nil, errNoBook
	case shutsOut(book, r.id()):
		return nil, ErrRevoked
	}
	if err := t.takeBook(ctx, s, book); err != nil {
		return nil, err
	}
	if err := t.letIn(ctx, p.Ledger, token.ID(), r); err != nil {
		return nil, err
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "node joins", slog.String("peer", r.id()), slog.String("token", token.ID()))
	return t.issue(s, q, r)
}

// knownToken reads a token and tells whether the farm has it. Who tries many is soon told nothing any more.
func (t *Trust) knownToken(ctx context.Context, p *Parts, text string) (Token, error) {
	refused := func() error {
		if !t.clerk.failed.Allow() {
			return errBusy
		}
		return ErrBadToken
	}
	token, err := ParseToken(text)
	if err != nil {
		return Token{}, refused()
	}
	proof, _ := t.clerk.tokens.known(token.ID())
	if proof == nil {
		if err := refused(); errors.Is(err, errBusy) {
			return Token{}, err
		}
		if proof, err = t.clerk.tokens.find(ctx, p, token.ID()); err != nil {
			return Token{}, err
		}
		if proof == nil {
			return Token{}, ErrBadToken
		}
	}
	if !token.proves(proof) {
		return Token{}, refused()
	}
	return token, nil
}

// answerRenewal gives a member another certificate for the same key. When the catalog does not answer, what this node has
// on disk must do: a farm that was switched off has no quorum before its nodes have certificates again.
func (t *Trust) answerRenewal(ctx context.Context, s *signer, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	if err := take(ctx, t.clerk.answers); err != nil {
		return nil, err
	}
	defer func() { <-t.clerk.answers }()
	r, err := parseRequest(q.GetRenewal().GetRequest())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	asked, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	fromDisk := t.confirmed(asked, s, r, who)
	if definite(fromDisk) {
		return nil, fromDisk
	}
	if fromDisk != nil {
		if err := t.confirmedByDisk(r, who); err != nil {
			return nil, err
		}
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "certificate renewed", slog.String("peer", r.id()), slog.Bool("without_catalog", fromDisk != nil))
	return t.issue(s, q, r)
}

// confirmed asks the catalog about a member. Without an error t.State is what the catalog has.
func (t *Trust) confirmed(ctx context.Context, s *signer, r request, who applicant) error {
	p, err := t.parts()
	if err != nil {
		return err
	}
	book, index, err := p.readBook(ctx)
	switch {
	case err != nil:
		return err
	case index == 0:
		return errNoBook
	case shutsOut(book, r.id()):
		return ErrRevoked
	}
	if err := t.takeBook(ctx, s, book); err != nil {
		return err
	}
	if err := t.isMember(who, r); err != nil { // before anything is bound
		return err
	}
	return t.confirm(ctx, p, r.id(), r.keyPrint(), t.nextEnd())
}

// confirmedByDisk is confirmed by what this node knows itself.
func (t *Trust) confirmedByDisk(r request, who applicant) error {
	if err := t.isMember(who, r); err != nil {
		return err
	}
	return t.confirmFromCopy(r.id(), r.keyPrint())
}

// isMember holds the certificate that was shown to what this node knows now, and to the request.
func (t *Trust) isMember(who applicant, r request) error {
	id, err := t.memberNow(who)
	if err != nil {
		return err
	}
	if id != r.id() || keyPrintOf(who.leaf) != r.keyPrint() {
		return ErrBadRequest
	}
	return nil
}

// memberNow is whose certificate was shown, which may have run out by up to Grace.
func (t *Trust) memberNow(who applicant) (string, error) {
	if who.leaf == nil {
		return "", ErrBadRequest
	}
	id, err := t.check(t.view.Load(), x509.ExtKeyUsageClientAuth, t.cfg.Grace).peer([]*x509.Certificate{who.leaf}, time.Now())
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		switch reason(refused.Reason) {
		case revokedNode:
			return "", ErrRevoked
		case runOut:
			return "", ErrTooOld
		}
		return "", fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return id, err
}

// answerLook tells a member the state: that of the catalog, or, when that does not answer, the one that this node has.
func (t *Trust) answerLook(ctx context.Context, s *signer, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	asked, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	if err := t.fresh(asked, s, 0); err != nil {
		t.noteUnanswered(ctx, err)
	}
	if _, err := t.memberNow(who); err != nil {
		return nil, err
	}
	return s.grant(q, nil, t.State())
}

// issue makes the certificate.
func (t *Trust) issue(s *signer, q *trustpb.Question, r request) (*trustpb.Answer, error) {
	chain, err := s.issuer.issue(r, t.cfg)
	if err != nil {
		return nil, err
	}
	return s.grant(q, chain, t.State())
}
