package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// server answers members. All that come here have shown a certificate.
type server struct {
	trustpb.UnimplementedTrustServer
	t *Trust
}

// Register adds what peers ask of t to the server at the peer door.
func (t *Trust) Register(r grpc.ServiceRegistrar) { trustpb.RegisterTrustServer(r, &server{t: t}) }

func (p *Parts) client(peer Peer) (trustpb.TrustClient, error) {
	conn, err := p.Conn(peer.Address)
	if err != nil {
		return nil, err
	}
	return trustpb.NewTrustClient(conn), nil
}

// Sign implements trustpb.TrustServer.
func (s *server) Sign(ctx context.Context, q *trustpb.SignRequest) (*trustpb.Answer, error) {
	var who applicant
	who.caller, _ = peerid.From(ctx)
	if chain := q.GetChain(); len(chain) > 0 {
		if len(chain[0]) > maxCertificate {
			return answerFor(ErrBadRequest), nil
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			return answerFor(ErrBadRequest), nil
		}
		who.leaf = leaf
	}
	if checkQuestion(q.GetQuestion()) != nil {
		return answerFor(ErrBadRequest), nil
	}
	signer, err := s.t.signer()
	if err != nil || signer == nil {
		return answerFor(errElsewhere), nil
	}
	a, err := s.t.answer(ctx, signer, q.GetQuestion(), who)
	if err != nil {
		s.t.noteUnanswered(ctx, err)
		return answerFor(err), nil
	}
	return a, nil
}

// State implements trustpb.TrustServer.
func (s *server) State(ctx context.Context, q *trustpb.StateRequest) (*trustpb.StateReply, error) {
	signer, err := s.t.signer()
	if err != nil || signer == nil {
		return nil, status.Error(codes.FailedPrecondition, errElsewhere.Error())
	}
	if err := s.t.fresh(ctx, signer, q.GetAtLeast()); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	reply := replyOf(s.t.State())
	reply.Sealed = true
	return reply, nil
}

// Seal implements trustpb.TrustServer.
func (s *server) Seal(ctx context.Context, _ *trustpb.SealRequest) (*trustpb.SealReply, error) {
	p, err := s.t.parts()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	id, ok := peerid.From(ctx)
	if !ok || !p.Farm.IsVoter(id) || s.t.Revoked(id) {
		return nil, status.Errorf(codes.PermissionDenied, "node %.64q is no voter", id)
	}
	signer, err := s.t.signer()
	if err != nil || signer == nil {
		return nil, status.Error(codes.FailedPrecondition, errElsewhere.Error())
	}
	return &trustpb.SealReply{Key: signer.key[:]}, nil
}

// Nudge implements trustpb.TrustServer.
func (s *server) Nudge(_ context.Context, q *trustpb.NudgeRequest) (*trustpb.NudgeReply, error) {
	s.t.Heard(q.GetEpoch())
	return &trustpb.NudgeReply{}, nil
}

// askState asks one peer for the state.
func (t *Trust) askState(ctx context.Context, p *Parts, peer Peer, atLeast uint64) (*trustpb.StateReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := p.client(peer)
	if err != nil {
		return nil, err
	}
	return client.State(ctx, &trustpb.StateRequest{AtLeast: atLeast})
}

// signTimeout bounds a question to one voter: it may wait for the catalog, and goes on without it.
const signTimeout = ledgerPatience + time.Second

// askVoters passes a question on to one voter after another until one has decided.
func (t *Trust) askVoters(ctx context.Context, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	p, err := t.parts()
	if err != nil {
		return nil, err
	}
	request := &trustpb.SignRequest{Question: q}
	if who.leaf != nil {
		request.Chain = [][]byte{who.leaf.Raw}
	}
	err = errElsewhere
	for _, peer := range t.others(p.Farm.Voters()) {
		a, askErr := t.askVoter(ctx, p, peer, request)
		if askErr == nil {
			if askErr = refusalIn(a); askErr == nil {
				return a, nil
			}
		}
		if definite(askErr) {
			return nil, askErr
		}
		if ctx.Err() != nil {
			return nil, errors.Join(errBusy, ctx.Err())
		}
		err = askErr
	}
	return nil, err
}

func (t *Trust) askVoter(ctx context.Context, p *Parts, peer Peer, q *trustpb.SignRequest) (*trustpb.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	client, err := p.client(peer)
	if err != nil {
		return nil, err
	}
	return client.Sign(ctx, q)
}
