package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

func originOf(repo oci.Repository) blobstore.Origin { return blobstore.Origin{Repository: repo} }

// own is the part of the node that the ring names, or that stands in for it: it finds out who in the farm has the blob
// already and reads from the upstream only what nobody has.
func (t *task) own(ctx context.Context, lost []string) error {
	if holder := t.e.holders.of(t.digest, lost); holder != "" {
		t.introduce(t.e.othersOf(t.digest, holder, lost))
		return &redirectError{holder}
	}
	hosted := t.isHosted()
	if !hosted {
		leave, err := t.mayGoAlone(ctx, lost)
		if err != nil {
			return err
		}
		defer leave()
	}
	t.mu.Lock()
	t.at, t.path = "", nil
	t.mu.Unlock()
	t.intend(true)
	defer t.intend(false)
	if hosted || len(lost) > 0 || !t.e.holders.settled() || t.e.holders.onItsWay(t.digest) || t.standsIn(lost) {
		if err := t.survey(ctx); err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.meeting = true
	t.mu.Unlock()
	if len(lost) > 0 {
		t.e.counters.takeovers.Add(1)
	}
	return t.readUpstream(ctx, lost)
}

// standsIn tells whether this node goes on although its view names another one: their views differ, and what it knows as
// an owner is not about this blob.
func (t *task) standsIn(lost []string) bool {
	owner := t.e.directory.View().OwnerWithout(t.digest, lost...)
	return owner != "" && owner != t.e.cfg.Self.ID
}

// yields tells whether another node that is about to read the upstream too goes before this one: it has pieces and this
// one has none, or else its id is the lower one.
func (t *task) yields(f finding) bool {
	t.mu.Lock()
	mine, theirs := t.list != nil, f.holding.GetList() != nil
	t.mu.Unlock()
	if mine != theirs {
		return theirs
	}
	return f.node.ID < t.e.cfg.Self.ID
}

func (t *task) intend(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.intends = on
}

// survey asks all members what they have of the blob: one small question each, bounded in time. Who has it whole, or
// reads it from the upstream now, is where the swarm meets; what others have in part is taken up.
func (t *task) survey(ctx context.Context) error {
	found, silent := t.e.askHoldings(ctx, t.digest)
	if len(found) == 0 && silent > 0 && t.isHosted() {
		found, _ = t.e.askHoldings(ctx, t.digest) // it is nowhere else to be had
	}
	var best *piece.List
	var neighbours []*transferpb.Node
	haves := make(map[piece.ID][]*piece.Bitmap)
	doubts := t.doubts()
	found = slices.DeleteFunc(found, func(f finding) bool { return slices.Contains(doubts, f.node.ID) })
	if holder := t.whoHas(found); holder != "" {
		return &redirectError{holder}
	}
	for _, f := range found {
		if t.meetsWith(f) {
			return &redirectError{f.node.ID}
		}
	}
	if err := t.outwait(ctx, found); err != nil {
		return err
	}
	for _, f := range found {
		list, err := localList(f.holding.GetList(), f.holding.GetMidstates())
		if err != nil || list.Digest() != t.digest {
			continue
		}
		if have, err := piece.BitmapFromBytes(list.Count(), f.holding.GetHave()); err == nil {
			haves[list.ID()] = append(haves[list.ID()], have)
		}
		neighbours = append(neighbours, &transferpb.Node{Id: f.node.ID, Address: f.node.Address, Zone: f.node.Zone})
		if best == nil || list.Known() > best.Known() {
			best = list
		}
	}
	if best == nil {
		return nil
	}
	if err := t.continueList(ctx, best); err != nil {
		return fmt.Errorf("take up the list of %s: %w", best.Issuer(), err)
	}
	t.noteElsewhere(haves)
	t.log.Info("taking over a swarm", slog.Int("known", best.Known()), slog.Int("nodes", len(neighbours)))
	t.meet(ctx, neighbours)
	return nil
}

// meetsWith tells whether the swarm meets at a node that was asked.
func (t *task) meetsWith(f finding) bool {
	return f.holding.GetWhole() || f.holding.GetMeeting() || f.holding.GetIntends() && t.yields(f)
}

// rivalLook is how often a node is asked anew that is about to read the upstream, too.
const rivalLook = 25 * time.Millisecond

// outwait waits, for a while, until those that are about to read the upstream as well, and that this node does not yield
// to, have yielded: who asked before this node was about to has heard nothing of it, and goes on.
func (t *task) outwait(ctx context.Context, found []finding) error {
	within, cancel := context.WithTimeout(ctx, 2*t.e.cfg.AskTimeout)
	defer cancel()
	for _, f := range found {
		for f.holding.GetIntends() && within.Err() == nil {
			_ = pause(within, rivalLook)
			f.holding, _ = t.e.askHolding(within, f.node, t.digest)
			if t.meetsWith(f) {
				return &redirectError{f.node.ID}
			}
		}
	}
	return ctx.Err()
}

// noteElsewhere keeps what live nodes were found to have, so that it is not read from the upstream before they had the
// time to give it. What belongs to another list than this node's is of no use here.
func (t *task) noteElsewhere(haves map[piece.ID][]*piece.Bitmap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.elsewhere = piece.NewBitmap(t.list.Count())
	for _, have := range haves[t.list.ID()] {
		for i := have.Next(0); i >= 0; i = have.Next(i + 1) {
			t.elsewhere.Set(i)
		}
	}
}

// continueList adopts a list that others go by. A list of this node's own that knows as much stays.
func (t *task) continueList(ctx context.Context, best *piece.List) error {
	t.mu.Lock()
	mine := t.list
	t.mu.Unlock()
	if mine != nil && mine.ID() != best.ID() && mine.Known() >= best.Known() {
		return nil
	}
	return t.adopt(ctx, best)
}

// A finding is what one member said that it has.
type finding struct {
	node    Node
	holding *transferpb.HoldingsReply_Holding
}

// maxAsked is how many members are asked at once.
const maxAsked = 64

// askHoldings asks every member what it has of a blob. A node that counts as lost is asked too: one that answers was
// busy and not lost. silent is how many have said nothing.
func (e *Engine) askHoldings(ctx context.Context, d oci.Digest) (found []finding, silent int) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AskTimeout)
	defer cancel()
	var mu sync.Mutex
	others := e.directory.Others()
	silent = len(others)
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for _, n := range others {
		g.Go(func() error {
			h, err := e.askHolding(ctx, n, d)
			if err != nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			silent--
			if h != nil {
				found = append(found, finding{n, h})
			}
			return nil
		})
	}
	_ = g.Wait() // a member that does not answer has said nothing
	return found, silent
}

// askHolding asks one member what it has of a blob; nil is nothing.
func (e *Engine) askHolding(ctx context.Context, n Node, d oci.Digest) (*transferpb.HoldingsReply_Holding, error) {
	p, err := e.peers.to(n.Address)
	if err != nil {
		return nil, err
	}
	q := &transferpb.HoldingsRequest{Digests: []string{d.String()}}
	r, err := p.Holdings(ctx, q)
	if err != nil && ctx.Err() == nil && e.reachable(ctx, n) {
		r, err = p.Holdings(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	e.lost.remove(n.ID)
	return r.GetHoldings()[d.String()], nil
}

// Holdings answers a member that asks what this node has.
func (e *Engine) Holdings(_ context.Context, q *transferpb.HoldingsRequest) (*transferpb.HoldingsReply, error) {
	r := &transferpb.HoldingsReply{Holdings: make(map[string]*transferpb.HoldingsReply_Holding)}
	for _, d := range parseDigests(q.GetDigests()) {
		if h := e.holdingOf(d); h != nil {
			r.Holdings[d.String()] = h
		}
	}
	return r, nil
}

// holdingOf is what this node has of a blob, nil when that is nothing. A task that has only just begun, or has ended,
// says nothing of what is on disk.
func (e *Engine) holdingOf(d oci.Digest) *transferpb.HoldingsReply_Holding {
	return e.leasedHolding(d, e.holdingHere(d))
}

func (e *Engine) holdingHere(d oci.Digest) *transferpb.HoldingsReply_Holding {
	if t := e.find(d); t != nil {
		if h := t.holding(); h != nil {
			return h
		}
	}
	if _, err := e.store.Stat(d); err == nil {
		return &transferpb.HoldingsReply_Holding{Whole: true}
	}
	return e.partHolding(d)
}

// holding is what a task has, for others; nil while it has no list and does not read the upstream.
func (t *task) holding() *transferpb.HoldingsReply_Holding {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.list == nil && !t.source && !t.intends {
		return nil
	}
	h := &transferpb.HoldingsReply_Holding{Whole: t.complete(), Meeting: t.source, Intends: t.intends}
	if t.list != nil && !h.Whole {
		h.List, h.Midstates, h.Have = wireHeader(t.list.Header()), t.list.Midstates(1), t.fetcher.Bitmap().Bytes()
	}
	return h
}
