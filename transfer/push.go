package transfer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/mem"

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
	data := mem.NewBuffer(buf, slotPool{t.e, func() {}})
	msg := &bulk{
		head: &transferpb.PushRequest{Digest: t.digest.String(), List: id[:], Piece: int32(i), Node: t.e.cfg.Self.ID},
		data: mem.BufferSlice{data},
	}
	t.e.counters.sentBytes.Add(n)
	t.e.counters.piecesSent.Add(1)
	t.e.counters.pushes.Add(1)
	reply := &transferpb.PushReply{}
	return reply, m.peer.conn.Invoke(ctx, transferpb.Transfer_Push_FullMethodName, msg, reply)
}

// pushed takes a piece that the meeting point sent unasked.
func (e *Engine) pushed(_ context.Context, b *bulk) (*transferpb.PushReply, error) {
	defer b.free()
	q := b.head.(*transferpb.PushRequest)
	t := e.taskOf(q.GetDigest())
	if t == nil {
		return &transferpb.PushReply{}, nil
	}
	i := int(q.GetPiece())
	t.mu.Lock()
	list := t.list
	if list == nil || t.done || t.complete() || !t.sameList(q.GetList()) || i < 0 || i >= list.Count() {
		had := t.complete()
		t.mu.Unlock()
		return &transferpb.PushReply{Had: had}, nil
	}
	from, ok := t.handles[q.GetNode()]
	if q.GetNode() != t.at && (!ok || t.members[from] == nil) {
		t.mu.Unlock()
		return &transferpb.PushReply{}, nil // nobody that this node takes part with
	}
	known := i < list.Known()
	if !t.fetcher.Expect(i, t.e.now()) {
		t.mu.Unlock()
		return &transferpb.PushReply{Had: true}, nil
	}
	t.mu.Unlock()
	err := error(errAbsent)
	if known || t.awaitMidstate(list, i) {
		err = t.accept(list, i, b.data, from, true)
	}
	if err == nil {
		return &transferpb.PushReply{Accepted: true}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == list {
		t.fetcher.Unexpect(i)
		if _, lied := errors.AsType[*oci.MismatchError](err); lied {
			t.e.counters.mismatches.Add(1)
			t.log.Warn("peer pushed a piece that does not match", slog.String("peer", q.GetNode()), slog.Int("piece", i))
			if m := t.members[from]; m != nil {
				t.suspect(m, i, t.e.now())
			} else if i == list.Count()-1 {
				t.condemn(list) // the meeting point's own list does not lead to the digest
			}
		}
	}
	return &transferpb.PushReply{}, nil
}

// awaitMidstate waits until piece i can be checked: a push may overtake the midstate that travels by Register.
func (t *task) awaitMidstate(list *piece.List, i int) bool {
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
		case <-deadline.C:
			return false
		}
	}
}
