package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

const (
	// maxOwners is how many owners in a row are asked for a document when they cannot ask the upstream for it. After that
	// this node asks the upstream itself, as lastTries lets it: others would fare no better than the owners.
	maxOwners = 2
	// lastTriesEvery and lastTriesAtOnce are how often it does: a farm whose upstream is down must not ask it from every
	// node for every client.
	lastTriesEvery, lastTriesAtOnce = time.Second, 3
	// maxDocument is the largest answer that is taken from a peer: a page of tags of a registry that does not page, with
	// its head.
	maxDocument = 17 << 20
)

// Ask gets a document from the node that owns it; key is what the ring places. here answers when that is this node, or
// when no other one can be reached or can ask the upstream, and this one may. A node that cannot be reached, that gives
// what the digest does not name, or that cannot ask the upstream is passed over.
func (e *Engine) Ask(ctx context.Context, key string, q Question, here func(context.Context) (Answer, error)) (Answer, error) {
	lost, past, refused, tried := e.lost.ids(), e.liars(q), 0, false
	for range maxMoves {
		owner := e.directory.View().OwnerOfWithout(key, slices.Concat(lost, past)...)
		tried = tried || owner == "" || owner == e.cfg.Self.ID
		a, err := e.askOwner(ctx, owner, q, lost, here)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return Answer{}, context.Cause(ctx)
		}
		switch {
		case asLost(err) != nil:
			if lost = append(lost, owner); len(lost) >= manyLost {
				lost = e.unreachable(ctx, lost)
			}
		case asFalse(err) != nil:
			past = append(past, owner)
		case errors.Is(err, oci.ErrUnavailable) && owner != "":
			if refused++; e.isAlone(lost) || refused == maxOwners && (tried || !e.mayTryLast()) {
				return Answer{}, err
			}
			if refused == maxOwners {
				return here(ctx)
			}
			past = append(past, owner)
		default:
			return Answer{}, err
		}
	}
	return Answer{}, fmt.Errorf("find the owner of %s: %w", key, oci.ErrUnavailable)
}

// askOwner asks the node that the ring names, which may be this one; "" says that no other one is left.
func (e *Engine) askOwner(ctx context.Context, owner string, q Question, lost []string, here func(context.Context) (Answer, error)) (Answer, error) {
	if owner != "" && owner != e.cfg.Self.ID {
		return e.askNode(ctx, owner, q)
	}
	leave, err := e.mayAskAlone(ctx, lost)
	if err != nil {
		return Answer{}, err
	}
	defer leave()
	return here(ctx)
}

// mayTryLast lets a node ask the upstream itself after the owners could not, now and then.
func (e *Engine) mayTryLast() bool {
	if !e.cfg.UpstreamFallback || !e.lastTries.Allow() {
		return false
	}
	e.counters.fallbacks.Add(1)
	return true
}

// isAlone tells whether there are other members and all of them are lost.
func (e *Engine) isAlone(lost []string) bool {
	others := e.others()
	return len(others) > 0 && !slices.ContainsFunc(others, func(id string) bool { return !slices.Contains(lost, id) })
}

// mayAskAlone lets a node that can reach no other one put a question to the upstream itself, if it may, a few at a time.
// leave gives the place back. Blobs have places of their own: a question does not wait until they have been read.
func (e *Engine) mayAskAlone(ctx context.Context, lost []string) (leave func(), err error) {
	if !e.isAlone(lost) {
		return func() {}, nil
	}
	if !e.cfg.UpstreamFallback {
		return nil, fmt.Errorf("no other node can be reached, and this one may not ask the upstream: %w", oci.ErrUnavailable)
	}
	select {
	case e.aloneAsking <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	e.counters.fallbacks.Add(1)
	return func() { <-e.aloneAsking }, nil
}

// liars are the nodes that gave something else than the document that q names.
func (e *Engine) liars(q Question) []string {
	if q.Kind != Manifest {
		return nil
	}
	var ids []string
	for _, text := range e.distrusted.ids() {
		if id, ok := strings.CutPrefix(text, q.Reference); ok && id != e.cfg.Self.ID {
			ids = append(ids, id)
		}
	}
	return ids
}

func asFalse(err error) *falseListError {
	e, _ := errors.AsType[*falseListError](err)
	return e
}

// askNode asks one node. A lostError says that it cannot be reached, a falseListError that it lies.
func (e *Engine) askNode(ctx context.Context, id string, q Question) (Answer, error) {
	node, ok := e.directory.Lookup(id)
	if !ok {
		return Answer{}, &lostError{id, errors.New("not a member")}
	}
	p, err := e.peers.to(node.Address)
	if err != nil {
		return Answer{}, &lostError{id, err}
	}
	reply, err := e.askTwice(ctx, p, node, q)
	if err != nil {
		return Answer{}, err
	}
	_ = e.arrived(int64(len(reply.GetBody()))) // a client waits: pieces make up for it
	return e.answer(id, q, reply)
}

// answer is what a node replied, once it is known to be what was asked for.
func (e *Engine) answer(id string, q Question, reply *transferpb.DocumentReply) (Answer, error) {
	if reply.GetError() != nil {
		return Answer{}, localError(reply.GetError(), id, oci.Digest{})
	}
	a := Answer{
		MediaType: reply.GetMediaType(), Size: reply.GetSize(), Body: reply.GetBody(), Link: reply.GetLink(),
		Stale: reply.GetStale(), Filtered: reply.GetFiltered(), Linked: reply.GetLinked(),
		Public: reply.GetStanding() == transferpb.Standing_STANDING_PUBLIC, Private: reply.GetStanding() >= transferpb.Standing_STANDING_PRIVATE,
		Hidden: reply.GetStanding() == transferpb.Standing_STANDING_HIDDEN, FarmReads: reply.GetFarmReads(),
		StandingAge: max(0, time.Duration(reply.GetStandingAgeMs())*time.Millisecond),
		Fresh:       time.Duration(reply.GetFreshMs()) * time.Millisecond, Age: time.Duration(reply.GetAgeMs()) * time.Millisecond,
	}
	var err error
	if reply.GetDigest() != "" {
		if a.Digest, err = oci.ParseDigest(reply.GetDigest()); err != nil {
			return Answer{}, fmt.Errorf("%s answers with a bad digest: %w", id, errors.Join(oci.ErrUnavailable, err))
		}
	}
	if q.Kind != Manifest {
		return a, nil
	}
	if a.Digest, err = oci.ParseDigest(q.Reference); err != nil {
		return Answer{}, err
	}
	if oci.FromBytes(a.Digest.Algorithm(), a.Body) != a.Digest {
		e.log.Error("a peer gave another manifest", slog.String("peer", id), slog.String("digest", q.Reference))
		return Answer{}, e.distrust(a.Digest, id)
	}
	return a, nil
}

// askTwice asks a node, and once more when the line broke and the node is there: it has just started, or the connection
// was old.
func (e *Engine) askTwice(ctx context.Context, p *peer, node Node, q Question) (*transferpb.DocumentReply, error) {
	var reply *transferpb.DocumentReply
	var err error
	for range 2 {
		err = e.watched(ctx, node, func(ctx context.Context) error {
			var err error
			reply, err = p.Document(ctx, e.wireQuestion(q), grpc.MaxCallRecvMsgSize(maxDocument))
			return err
		})
		if err == nil {
			return reply, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, errSilent) || !e.reachable(ctx, node) {
			e.lose(node.ID)
			return nil, &lostError{node.ID, err}
		}
	}
	return nil, fmt.Errorf("ask %s: %w: %w", node.ID, oci.ErrUnavailable, err)
}

func (e *Engine) wireQuestion(q Question) *transferpb.DocumentRequest {
	if q.Right == "" && !q.Held {
		q.Right = e.rightOf(q.Repository)
	}
	return &transferpb.DocumentRequest{
		Kind: transferpb.DocumentRequest_Kind(q.Kind), Upstream: q.Repository.Upstream, Repository: q.Repository.Path,
		Reference: q.Reference, N: int32(q.N), Last: q.Last, Accept: q.Accept, Held: q.Held,
		Right: q.Right, Blob: q.Blob,
	}
}

// Document answers a peer that takes this node for the document's owner, or for a node that holds it.
func (e *Engine) Document(ctx context.Context, q *transferpb.DocumentRequest) (*transferpb.DocumentReply, error) {
	if q.GetKind() < transferpb.DocumentRequest_KIND_RESOLVE || q.GetKind() > transferpb.DocumentRequest_KIND_CHECK {
		return nil, status.Error(codes.Unimplemented, "no such kind of document")
	}
	repo := oci.Repository{Upstream: q.GetUpstream(), Path: q.GetRepository()}
	if Kind(q.GetKind()) != Check { // that is what is to be found out
		e.hearRight(repo, q.GetRight())
	}
	a, err := e.documents.Document(ctx, Question{
		Kind: Kind(q.GetKind()), Repository: repo, Right: q.GetRight(), Blob: q.GetBlob(),
		Reference: q.GetReference(), N: int(q.GetN()), Last: q.GetLast(), Accept: q.GetAccept(), Held: q.GetHeld(),
	})
	if err != nil {
		return &transferpb.DocumentReply{Error: wireError(err)}, nil
	}
	_ = spend(e.upload, int64(len(a.Body)))
	return &transferpb.DocumentReply{
		Digest: a.Digest.String(), MediaType: a.MediaType, Size: a.Size, Body: a.Body, Link: a.Link,
		Stale: a.Stale, Filtered: a.Filtered, Linked: a.Linked, Standing: a.standing(), FarmReads: a.FarmReads, StandingAgeMs: int64((a.StandingAge + time.Millisecond - 1) / time.Millisecond),
		FreshMs: a.Fresh.Milliseconds(), AgeMs: int64((a.Age + time.Millisecond - 1) / time.Millisecond),
	}, nil
}

// standing is what an answer says of its repository, for a peer.
func (a Answer) standing() transferpb.Standing {
	switch {
	case a.Public:
		return transferpb.Standing_STANDING_PUBLIC
	case a.Hidden:
		return transferpb.Standing_STANDING_HIDDEN
	case a.Private:
		return transferpb.Standing_STANDING_PRIVATE
	}
	return transferpb.Standing_STANDING_UNSPECIFIED
}
