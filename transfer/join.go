package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// A lostError says that a meeting point cannot be reached, or says nothing.
type lostError struct {
	node string
	err  error
}

func (e *lostError) Error() string { return fmt.Sprintf("meeting point %s is lost: %v", e.node, e.err) }
func (e *lostError) Unwrap() error { return e.err }

// A redirectError says that the swarm meets at another node.
type redirectError struct{ node string }

func (e *redirectError) Error() string { return "the swarm meets at " + e.node }

// An againError says that a meeting point is there and has ended the swarm: it must be asked anew.
type againError struct {
	node string
	err  error
}

func (e *againError) Error() string {
	return fmt.Sprintf("meeting point %s ended the swarm: %v", e.node, e.err)
}
func (e *againError) Unwrap() error { return e.err }

// againWait is how long a meeting point that has ended a swarm is left alone.
const againWait = 100 * time.Millisecond

// maxRefused is how many owners in a row may say that they cannot reach the upstream before a node goes there itself.
const maxRefused = 2

// maxMoves bounds how many meeting points one fetch goes through in a row that give it nothing.
const maxMoves = 32

// obtain gets the whole blob: at the meeting point that the ring names, at its successors when it is lost, and in the
// end from the upstream itself.
//
//nolint:funlen // whatever a meeting point may end with decides here who is asked next
func (t *task) obtain(ctx context.Context) error {
	lost := t.passedOver()
	at, refused := "", 0
	var err error
	for moves, had := 0, t.pieces(); moves < maxMoves; moves++ {
		if at == "" {
			at = t.meetsAt(lost)
		}
		if at == "" || at == t.e.cfg.Self.ID {
			err = t.own(ctx, lost)
		} else {
			err = t.join(ctx, at, lost)
		}
		if t.isComplete() {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if has := t.pieces(); has > had {
			moves, had = 0, has
		}
		if _, wrong := errors.AsType[*oci.MismatchError](err); wrong && at != "" && at != t.e.cfg.Self.ID && asFalse(err) == nil {
			// What that node has got does not lead to the digest; the next one may have got what does.
			err = fmt.Errorf("%s says: %w: %w", at, oci.ErrUnavailable, err)
			if refused++; refused >= maxRefused {
				return err
			}
			lost, at = append(lost, at), ""
			continue
		}
		if err == nil || errors.Is(err, context.Canceled) {
			err = &againError{at, errors.New("the stream ended")}
		}
		next := ""
		switch gone, moved := asLost(err), asRedirect(err); {
		case moved != nil:
			t.noteTried(at) // a holder that sends on is none
			if moved.node != at {
				next = moved.node // also one that was lost: whoever named it has heard from it
				lost = slices.DeleteFunc(lost, func(id string) bool { return id == next })
			} else {
				lost = append(lost, at)
			}
		case asAgain(err) != nil:
			next = at
			select {
			case <-ctx.Done():
			case <-time.After(againWait):
			}
		case gone != nil:
			t.log.Info("meeting point lost", slog.String("peer", gone.node), slog.Any("error", gone.err))
			if lost = append(lost, gone.node); len(lost) >= manyLost {
				lost = t.e.unreachable(ctx, lost)
			}
		case errors.Is(err, oci.ErrUnavailable) && at != t.e.cfg.Self.ID && at != "":
			// That node cannot reach the upstream; the next owner may, and in the end this node itself.
			if refused++; refused < maxRefused {
				lost = append(lost, at)
			} else if t.e.cfg.UpstreamFallback || t.isHosted() {
				lost = t.e.others()
			} else {
				return err
			}
		default:
			return err
		}
		at = next
	}
	t.log.Warn("no meeting point could serve the blob", slog.Any("error", err))
	return t.alone(ctx)
}

func asLost(err error) *lostError {
	e, _ := errors.AsType[*lostError](err)
	return e
}

func asAgain(err error) *againError {
	e, _ := errors.AsType[*againError](err)
	return e
}

func asRedirect(err error) *redirectError {
	e, _ := errors.AsType[*redirectError](err)
	return e
}

// passedOver are the nodes that cannot be this blob's meeting point now: those that were found lost a moment ago, and
// those that issued a false list of it, or said that they had.
func (t *task) passedOver() []string { return append(t.e.lost.ids(), t.doubts()...) }

// join registers with a meeting point and stays until the blob is here, and after that for as long as the task lives.
func (t *task) join(ctx context.Context, at string, lost []string) error {
	node, ok := t.e.directory.Lookup(at)
	if !ok {
		return &lostError{at, errors.New("not a member")}
	}
	p, err := t.e.peers.to(node.Address)
	if err != nil {
		return &lostError{at, err}
	}
	// A node that seems gone is asked once, directly: gossip needs many seconds to notice. One that has died refuses at
	// once; only one that was cut off without a word takes as long as ProbeTimeout.
	if p.quiet(time.Now()) > t.e.cfg.Silence && !t.e.reachable(ctx, node) {
		t.e.lose(at)
		return &lostError{at, errors.New("no answer to a probe")}
	}
	streamCtx, cancel := context.WithCancel(ctx)
	stream, err := p.Register(streamCtx)
	if err == nil {
		err = stream.Send(t.application(lost))
	}
	if err != nil {
		cancel()
		return t.parted(ctx, node, err)
	}
	t.mu.Lock()
	t.at = at
	t.mu.Unlock()
	ended := make(chan error, 1)
	t.e.group.Go(func() {
		defer cancel()
		ended <- t.attend(streamCtx, node, p, stream)
	})
	return t.attended(ctx, stream, ended, cancel)
}

// lonelyLook is how often a node looks whether it needs more neighbours.
const lonelyLook = 100 * time.Millisecond

// attended waits until the blob is here or the stream has ended, and asks for more neighbours meanwhile.
func (t *task) attended(ctx context.Context, stream transferpb.Transfer_RegisterClient, ended chan error, cancel func()) error {
	look := time.NewTicker(lonelyLook)
	defer look.Stop()
	told := false // that a client has come: it may have before this node registered, and is then told once in vain
	for {
		select {
		case err := <-ended:
			return err
		case <-t.whole:
			// The stream stays open, so that the meeting point knows a holder; it ends with the task.
			if err := stream.Send(&transferpb.RegisterRequest{Complete: true}); err != nil {
				cancel()
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
		told = t.hurried(stream, told)
		if more, stalled := t.lonely(); more {
			if err := stream.Send(&transferpb.RegisterRequest{More: true, Stalled: stalled, Neighbours: t.neighbours()}); err != nil {
				look.Stop() // the stream has ended: attend says why
			}
		}
	}
}

// lonely tells whether more neighbours are needed, and whether nothing has arrived for long.
func (t *task) lonely() (more, stalled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher == nil {
		return false, false
	}
	now := t.e.now()
	return t.fetcher.NeedsPeers(now), t.fetcher.Starving(now)
}

func (t *task) neighbours() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher == nil {
		return 0
	}
	return int32(t.fetcher.Peers())
}

// application is what a node says when it registers.
func (t *task) application(lost []string) *transferpb.RegisterRequest {
	right := t.e.rightOf(t.repository())
	t.mu.Lock()
	defer t.mu.Unlock()
	me := t.e.cfg.Self
	q := &transferpb.RegisterRequest{
		Ahead: !t.wanted.Load(), Digest: t.digest.String(), Upstream: t.repo.Upstream, Repository: t.repo.Path, Size: t.claimed,
		Node: &transferpb.Node{Id: me.ID, Address: me.Address, Zone: me.Zone}, Lost: lost, Tried: t.tried,
		RingHash: t.e.directory.View().Hash(), Right: right,
	}
	if t.list != nil {
		q.Neighbours = int32(t.fetcher.Peers())
		q.List, q.Midstates, q.Have = wireHeader(t.list.Header()), t.list.Midstates(1), t.fetcher.Bitmap().Bytes()
	}
	return q
}

// attend takes in what the meeting point sends.
func (t *task) attend(ctx context.Context, node Node, p *peer, stream transferpb.Transfer_RegisterClient) error {
	at := node.ID
	replies := make(chan *transferpb.RegisterReply)
	broken := make(chan error, 1)
	t.e.group.Go(func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				broken <- err
				return
			}
			select {
			case replies <- r:
			case <-ctx.Done():
				return
			}
		}
	})
	silence := time.NewTimer(t.e.cfg.Silence)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return t.parted(ctx, node, err)
		case id := <-t.stray:
			if id == at {
				return fmt.Errorf("%s gives pieces that do not match: %w", at, oci.ErrUnavailable)
			}
		case <-silence.C:
			silence.Reset(t.e.cfg.Silence)
			if p.quiet(time.Now()) < t.e.cfg.Silence || t.e.reachable(ctx, node) {
				continue
			}
			t.e.lose(at)
			return &lostError{at, fmt.Errorf("nothing heard for %v, and no answer to a probe", t.e.cfg.Silence)}
		case r := <-replies:
			silence.Reset(t.e.cfg.Silence)
			if err := t.replied(ctx, at, r); err != nil {
				return err
			}
		}
	}
}

// parted says what the end of the line to a meeting point means: nothing when the blob is here, a new attempt when the
// node is there and only the swarm has ended, and else that the node is lost.
func (t *task) parted(ctx context.Context, node Node, err error) error {
	switch {
	case t.isComplete() || ctx.Err() != nil:
		return nil
	case t.e.reachable(ctx, node):
		return &againError{node.ID, err}
	case ctx.Err() != nil:
		return nil
	}
	t.e.lose(node.ID)
	return &lostError{node.ID, err}
}

// replied takes in one reply of the meeting point.
func (t *task) replied(ctx context.Context, at string, r *transferpb.RegisterReply) error {
	t.e.lost.remove(at)
	if r.GetError() != nil {
		err := localError(r.GetError(), at, t.digest)
		if _, wrong := errors.AsType[*oci.MismatchError](err); wrong {
			return t.told(at, err)
		}
		return err
	}
	if r.GetRedirect() != "" {
		if len(r.GetMembers()) > 0 {
			t.e.directory.Merge(r.GetMembers())
		}
		t.introduce(r.GetNeighbours())
		if slices.Contains(t.doubts(), r.GetRedirect()) {
			return fmt.Errorf("%s sends to %s, which gave something false: %w", at, r.GetRedirect(), oci.ErrUnavailable)
		}
		return &redirectError{r.GetRedirect()}
	}
	if err := t.circle(at, r.GetWaits()); err != nil {
		return err
	}
	if r.GetIsInline() || r.GetList() != nil {
		t.mu.Lock()
		t.vouch() // the meeting point has asked the repository before it sent this
		t.mu.Unlock()
	}
	if r.GetIsInline() {
		return t.takeInline(ctx, at, r.GetInline())
	}
	if r.GetList() != nil {
		list, err := localList(r.GetList(), nil)
		if err != nil || list.Digest() != t.digest {
			return &lostError{at, fmt.Errorf("sent no list of this blob: %w", err)}
		}
		if err := t.adopt(ctx, list); err != nil {
			return err
		}
	}
	if len(r.GetMidstates()) > 0 {
		if err := t.extendFrom(int(r.GetMidstatesFrom()), r.GetMidstates()); err != nil {
			return &lostError{at, err}
		}
	}
	if nodes := append(r.GetNeighbours(), t.introduced()...); len(nodes) > 0 {
		t.meet(ctx, nodes)
	}
	return nil
}

func (t *task) extendFrom(first int, midstates []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		return errors.New("midstates without a list")
	}
	return t.extend(first, midstates)
}
