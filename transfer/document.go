package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// Ask puts a question to the node that owns the document, and to its successors when it is lost; key is what the ring
// places. self says that the answer is this node's own to give: nobody else is left, or it owns the document.
func (e *Engine) Ask(ctx context.Context, key string, q Question) (a Answer, self bool, err error) {
	lost := e.lost.ids()
	for range maxMoves {
		owner := e.directory.View().OwnerOfWithout(key, lost...)
		if owner == "" || owner == e.cfg.Self.ID {
			return Answer{}, true, nil
		}
		a, err := e.askNode(ctx, owner, q)
		if asLost(err) == nil {
			return a, false, err
		}
		if ctx.Err() != nil {
			return Answer{}, false, context.Cause(ctx)
		}
		if lost = append(lost, owner); len(lost) >= manyLost {
			lost = e.unreachable(ctx, lost)
		}
	}
	return Answer{}, true, nil
}

// askNode asks one node. A lostError says that it cannot be reached.
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
	if reply.GetError() != nil {
		return Answer{}, localError(reply.GetError(), id, oci.Digest{})
	}
	a := Answer{
		MediaType: reply.GetMediaType(), Size: reply.GetSize(), Body: reply.GetBody(), Link: reply.GetLink(),
		Stale: reply.GetStale(), Filtered: reply.GetFiltered(), Fresh: time.Duration(reply.GetFreshMs()) * time.Millisecond,
	}
	if reply.GetDigest() == "" {
		return a, nil
	}
	if a.Digest, err = oci.ParseDigest(reply.GetDigest()); err != nil {
		return Answer{}, fmt.Errorf("%s answers with a bad digest: %w", id, errors.Join(oci.ErrUnavailable, err))
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
			reply, err = p.Document(ctx, wireQuestion(q))
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

func wireQuestion(q Question) *transferpb.DocumentRequest {
	return &transferpb.DocumentRequest{
		Kind: transferpb.DocumentRequest_Kind(q.Kind), Upstream: q.Repository.Upstream, Repository: q.Repository.Path,
		Reference: q.Reference, N: int32(q.N), Last: q.Last, Accept: q.Accept,
	}
}

// Document answers a peer that takes this node for the document's owner.
func (e *Engine) Document(ctx context.Context, q *transferpb.DocumentRequest) (*transferpb.DocumentReply, error) {
	if q.GetKind() < transferpb.DocumentRequest_KIND_RESOLVE || q.GetKind() > transferpb.DocumentRequest_KIND_REFERRERS {
		return nil, status.Error(codes.Unimplemented, "no such kind of document")
	}
	a, err := e.documents.Document(ctx, Question{
		Kind: Kind(q.GetKind()), Repository: oci.Repository{Upstream: q.GetUpstream(), Path: q.GetRepository()},
		Reference: q.GetReference(), N: int(q.GetN()), Last: q.GetLast(), Accept: q.GetAccept(),
	})
	if err != nil {
		return &transferpb.DocumentReply{Error: wireError(err)}, nil
	}
	return &transferpb.DocumentReply{
		Digest: a.Digest.String(), MediaType: a.MediaType, Size: a.Size, Body: a.Body, Link: a.Link,
		Stale: a.Stale, Filtered: a.Filtered, FreshMs: a.Fresh.Milliseconds(),
	}, nil
}
