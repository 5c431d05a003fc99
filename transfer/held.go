package transfer

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/oci"
)

// maxHolders is how many nodes that should have a manifest are asked for it before the upstream is.
const maxHolders = 3

// Stored tells the owner of a small blob, soon, that this node has it from now on.
func (e *Engine) Stored(d oci.Digest) { e.holders.stored(d) }

// FromHolder gets a manifest from a node that has it, as its owner does before it asks the upstream; ok is false when
// there is none. What an owner knows of others may be short of the truth: then all members are asked once, by a small
// question, and with everywhere they always are.
func (e *Engine) FromHolder(ctx context.Context, d oci.Digest, q Question, everywhere bool) (a Answer, ok bool) {
	q.Held = true
	var tried []string
	past := append(e.lost.ids(), e.liars(q)...)
	for id := e.holders.of(d, past); id != "" && len(tried) < maxHolders; id = e.holders.of(d, past) {
		a, err := e.askHolder(ctx, id, q)
		if err == nil {
			return a, true
		}
		if errors.Is(err, oci.ErrNotFound) {
			e.holders.remove(d, id)
		}
		tried, past = append(tried, id), append(past, id)
	}
	if !everywhere && !e.uncertain(d) {
		return Answer{}, false
	}
	tried = append(tried, e.liars(q)...)
	left := maxHolders
	found, _ := e.askHoldings(ctx, d)
	for _, f := range found {
		if !f.holding.GetWhole() || slices.Contains(tried, f.node.ID) || left == 0 {
			continue
		}
		if a, err := e.askHolder(ctx, f.node.ID, q); err == nil {
			return a, true
		}
		left--
	}
	return Answer{}, false
}

func (e *Engine) askHolder(ctx context.Context, id string, q Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.PieceTimeout)
	defer cancel()
	return e.askNode(ctx, id, q)
}

// uncertain tells whether other nodes may have d without this one, as its owner, knowing of it.
func (e *Engine) uncertain(d oci.Digest) bool {
	return len(e.lost.ids()) > 0 || !e.holders.settled() || e.holders.onItsWay(d) || e.directory.View().Owner(d) != e.cfg.Self.ID
}

// AskMembers asks all other members for what they have of a document, for AskTimeout at most. Those that have nothing,
// or say nothing, are not among the answers.
func (e *Engine) AskMembers(ctx context.Context, q Question) []Answer {
	q.Held = true
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AskTimeout)
	defer cancel()
	var mu sync.Mutex
	var answers []Answer
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for _, n := range e.directory.Others() {
		g.Go(func() error {
			p, err := e.peers.to(n.Address)
			if err != nil {
				return nil
			}
			reply, err := p.Document(ctx, e.wireQuestion(q), grpc.MaxCallRecvMsgSize(maxDocument))
			if err != nil && ctx.Err() == nil && e.reachable(ctx, n) { // it has just started, or the connection was old
				reply, err = p.Document(ctx, e.wireQuestion(q), grpc.MaxCallRecvMsgSize(maxDocument))
			}
			if err != nil {
				return nil
			}
			if a, err := e.answer(n.ID, q, reply); err == nil {
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, a)
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	return answers
}
