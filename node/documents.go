package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
)

// Document answers peers that take this node for the owner of a document, or for one that holds it.
func (n *Node) Document(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	if n.hosts(q.Repository) && !q.Held {
		return n.hostedDocument(ctx, q)
	}
	if _, err := n.upstreams.of(q.Repository); err != nil && !n.hosts(q.Repository) {
		return transfer.Answer{}, err
	}
	if q.Held {
		a, err := n.held(q)
		return n.standings.fill(q.Repository, a), err
	}
	if q.Kind == transfer.Check {
		return n.checkHere(ctx, q)
	}
	a, err := n.document(ctx, q)
	return n.standings.fill(q.Repository, a), err
}

// document answers a question about a repository of an upstream.
func (n *Node) document(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	switch q.Kind {
	case transfer.Standing:
		return n.standingHere(ctx, q)
	case transfer.Resolve:
		return n.answerResolve(ctx, q)
	case transfer.Tags:
		return n.tagsHere(ctx, q)
	}
	d, err := documentDigest(q)
	if err != nil {
		return transfer.Answer{}, err
	}
	switch q.Kind {
	case transfer.Manifest:
		return n.manifestHere(ctx, q.Repository, d)
	case transfer.Confirm:
		size, err := n.confirmHere(ctx, q.Repository, d)
		return transfer.Answer{Digest: d, Size: size}, err
	case transfer.Referrers:
		return n.referrersHere(ctx, q, d)
	}
	return transfer.Answer{}, fmt.Errorf("%w: document kind %d", oci.ErrUnsupported, q.Kind)
}

// held is what this node has of a document; it asks nobody.
func (n *Node) held(q transfer.Question) (transfer.Answer, error) {
	switch q.Kind {
	case transfer.Standing:
		if s, ok := n.standings.of(q.Repository); ok {
			return s.in(transfer.Answer{}), nil
		}
	case transfer.Resolve:
		if r, ok := n.recall(tagKey{q.Repository, q.Reference, acceptClass(q.Accept)}); ok {
			return r.answer(), nil
		}
	case transfer.Tags, transfer.Referrers:
		if kept, ok := n.keptList(listKey(q)); ok {
			return kept.answer(true), nil
		}
	case transfer.Manifest:
		d, err := documentDigest(q)
		if err != nil {
			return transfer.Answer{}, err
		}
		if a, ok := n.heldManifest(q.Repository, d); ok {
			return a, nil
		}
	case transfer.Confirm:
		d, err := documentDigest(q)
		if err != nil {
			return transfer.Answer{}, err
		}
		if n.links.has(q.Repository, d) {
			return transfer.Answer{Digest: d, Size: n.linkedSize(q.Repository, d), Linked: true}, nil
		}
	}
	return transfer.Answer{}, fmt.Errorf("document %q of %s: %w", q.Reference, q.Repository, oci.ErrNotFound)
}

func documentDigest(q transfer.Question) (oci.Digest, error) {
	d, err := oci.ParseDigest(q.Reference)
	if err != nil {
		return d, errors.Join(oci.ErrNotFound, err)
	}
	return d, nil
}

// cannotAsk tells whether err says that the upstream cannot be asked now, so that what is known of it may be given
// instead. Anything else is an answer of its.
func cannotAsk(err error) bool {
	_, limited := errors.AsType[*oci.TooManyRequestsError](err)
	return limited || errors.Is(err, oci.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// confirmedElsewhere asks the other nodes whether repo has confirmed d to one of them, for when the upstream cannot be
// asked.
func (n *Node) confirmedElsewhere(ctx context.Context, repo oci.Repository, d oci.Digest) (size int64, ok bool) {
	size = -1
	for _, a := range n.engine.AskMembers(ctx, transfer.Question{Kind: transfer.Confirm, Repository: repo, Reference: d.String()}) {
		if a.Linked && a.Digest == d {
			size, ok = max(size, a.Size), true
		}
	}
	if ok {
		n.links.note(repo, d, size)
	}
	return size, ok
}

// newest is the answer that the upstream gave last.
func newest(answers []transfer.Answer) (transfer.Answer, bool) {
	if len(answers) == 0 {
		return transfer.Answer{}, false
	}
	best := answers[0]
	for _, a := range answers[1:] {
		if a.Age < best.Age {
			best = a
		}
	}
	return best, true
}

// age is how long ago at was, for a peer whose clock may show another time.
func age(at time.Time) time.Duration { return max(0, time.Since(at)) }
