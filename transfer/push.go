package transfer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

// push sends a piece that nobody asked for. The caller holds mu.
func (t *task) push(ctx context.Context, p swarm.Push) {
	m, list := t.members[p.Peer], t.list
	s := t.register.Seeder()
	if m == nil || !t.fetcher.Has(p.Piece) {
		s.Refused(p.Peer, p.Piece, true, t.e.now())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	t.pushing[p] = cancel
	t.uploads.Force(p.Peer)
	register := t.register
	t.e.group.Go(func() {
		reply, err := t.give(ctx, m, list, p.Piece)
		t.mu.Lock()
		defer t.mu.Unlock()
		cancel()
		delete(t.pushing, p)
		t.uploads.Done(p.Peer)
		now := t.e.now()
		switch {
		case err != nil:
			register.Seeder().Failed(p.Peer, p.Piece, now)
		case reply.GetAccepted():
			register.Seeder().Acked(p.Peer, p.Piece, now)
			register.Have(p.Peer, []uint32{uint32(p.Piece)})
		default:
			register.Seeder().Refused(p.Peer, p.Piece, reply.GetHad(), now)
		}
		t.wake()
	})
}

// give sends one piece to a registered node.
func (t *task) give(ctx context.Context, m *member, list *piece.List, i int) (*transferpb.PushReply, error) {
	_, n := list.Bounds(i)
	if err := t.e.upload.WaitN(ctx, int(n)); err != nil {
		return nil, err
	}
	buf, err := t.read(ctx, list, i)
	if err != nil {
		return nil, err
	}
	id := list.ID()
	t.e.sending.Add(n)
	defer t.e.sending.Add(-n) // a call that fails early never frees the buffer
	data := mem.NewBuffer(buf, bufferPool{t.e})
	msg := &bulk.Message{
		Head: &transferpb.PushRequest{Digest: t.digest.String(), List: id[:], Piece: int32(i), Node: t.e.cfg.Self.ID},
		Data: mem.BufferSlice{data},
	}
	t.e.counters.sentBytes.Add(n)
	t.e.counters.piecesSent.Add(1)
	t.e.counters.pushes.Add(1)
	reply := &transferpb.PushReply{}
	return reply, m.peer().conn.Invoke(ctx, transferpb.Transfer_Push_FullMethodName, msg, reply)
}

// pushed takes a piece that the meeting point sent unasked.
func (e *Engine) pushed(ctx context.Context, b *bulk.Message) (*transferpb.PushReply, error) {
	defer b.Free()
	q := b.Head.(*transferpb.PushRequest)
	if err := peerid.Check(ctx, q.GetNode()); err != nil {
		return nil, err
	}
	_, done, err := e.enter()
	if err != nil {
		return &transferpb.PushReply{}, nil
	}
	defer done()
	n := int64(b.Data.Len())
	delay := e.arrived(n) // also what is refused has come over the line
	t := e.taskOf(ctx, q.GetDigest())
	if t == nil {
		return &transferpb.PushReply{}, nil
	}
	i := int(q.GetPiece())
	list, from, had := t.expect(q, i)
	if list == nil {
		return &transferpb.PushReply{Had: had}, nil
	}
	e.budget.Add(n)
	err = t.takePushed(ctx, list, i, b, from, delay)
	e.budget.Add(-n)
	if err == nil {
		return &transferpb.PushReply{Accepted: true}, nil
	}
	t.refusePush(list, i, from, q.GetNode(), err)
	return &transferpb.PushReply{}, nil
}

// expect notes that a piece is coming, and gives the list that it belongs to. There is none when the piece is not
// wanted; had tells whether that is because it is here already, or on its way.
func (t *task) expect(q *transferpb.PushRequest, i int) (list *piece.List, from swarm.Peer, had bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil || t.done || t.complete() || !t.sameList(q.GetList()) || i < 0 || i >= t.list.Count() {
		return nil, 0, t.complete()
	}
	from, ok := t.handles[q.GetNode()]
	if q.GetNode() != t.at && (!ok || t.members[from] == nil) {
		return nil, 0, false // nobody that this node takes part with
	}
	if !t.fetcher.Expect(i, t.e.now()) {
		return nil, 0, true
	}
	return t.list, from, false
}

// takePushed checks and writes a piece once the limit has room for it: who pushes waits for the answer, and pushes no
// more meanwhile.
func (t *task) takePushed(ctx context.Context, list *piece.List, i int, b *bulk.Message, from swarm.Peer, delay time.Duration) error {
	if err := pause(ctx, delay); err != nil {
		return err
	}
	if i >= list.Known() && !t.awaitMidstate(ctx, list, i) {
		return errAbsent
	}
	return t.accept(ctx, list, i, b.Data, from, true)
}

// refusePush lets a piece whose push came to nothing be fetched, and blames who sent it if it was wrong.
func (t *task) refusePush(list *piece.List, i int, from swarm.Peer, node string, err error) {
	_, lied := errors.AsType[*oci.MismatchError](err)
	if lied {
		t.e.counters.mismatches.Add(1)
		t.log.Warn("peer pushed a piece that does not match", slog.String("peer", node), slog.Int("piece", i))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != list {
		return
	}
	t.fetcher.Unexpect(i)
	if !lied {
		return
	}
	if m := t.members[from]; m != nil {
		t.suspect(m, i, t.e.now())
	} else if i == list.Count()-1 {
		t.condemn(list) // the meeting point's own list does not lead to the digest
	} else {
		t.goAstray(node)
	}
}

// awaitMidstate waits until piece i can be checked: a push may overtake the midstate that travels by Register.
func (t *task) awaitMidstate(ctx context.Context, list *piece.List, i int) bool {
	deadline := time.NewTimer(t.e.cfg.PieceTimeout)
	defer deadline.Stop()
	for {
		grown := list.Grown()
		if i < list.Known() {
			return true
		}
		select {
		case <-grown:
		case <-t.ended:
			return false
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return false
		}
	}
}
