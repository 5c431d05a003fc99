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

// request asks a neighbour for a piece. The caller holds mu.
func (t *task) request(ctx context.Context, r swarm.Request) {
	m, list := t.members[r.Peer], t.list
	if m == nil {
		t.fetcher.Failed(r.Peer, r.Piece, swarm.Broken, t.e.now())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	t.cancels[r] = cancel
	_, n := list.Bounds(r.Piece)
	t.e.budget.Add(n)
	t.e.group.Go(func() {
		err := t.ask(ctx, m, list, r)
		t.e.budget.Add(-n)
		cancelled := ctx.Err() != nil // by this side, which no longer needs the piece from there
		if err != nil && !cancelled {
			t.report(m, r.Piece, err)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		cancel()
		if !cancelled {
			delete(t.cancels, r)
		}
		if err != nil && !cancelled && t.list == list {
			t.refused(m, r, err)
		}
		t.wake()
	})
}

// The ways in which a neighbour does not give a piece.
var (
	errBusy   = errors.New("peer is busy")
	errAbsent = errors.New("peer does not have the piece")
	errOwn    = errors.New("piece not written")
)

// ask fetches one piece from a neighbour, checks it and writes it.
func (t *task) ask(ctx context.Context, m *member, list *piece.List, r swarm.Request) error {
	_, n := list.Bounds(r.Piece)
	if err := t.e.download.WaitN(ctx, int(n)); err != nil {
		return err
	}
	id := list.ID()
	head := &transferpb.PieceReply{}
	reply := &bulk.Message{Head: head}
	err := m.peer().conn.Invoke(ctx, transferpb.Transfer_Piece_FullMethodName, &transferpb.PieceRequest{
		Digest: t.digest.String(), List: id[:], Piece: int32(r.Piece), Node: t.e.cfg.Self.ID, Lone: r.LastResort, Urgent: r.Urgent(),
	}, reply)
	if err != nil {
		return err
	}
	defer reply.Free()
	t.mu.Lock()
	t.fetcher.Load(r.Peer, int(head.GetLoad()))
	t.mu.Unlock()
	switch head.GetStatus() {
	case transferpb.PieceReply_STATUS_OK:
		return t.accept(ctx, list, r.Piece, reply.Data, r.Peer, false)
	case transferpb.PieceReply_STATUS_BUSY:
		return errBusy
	default:
		return errAbsent
	}
}

// accept checks a piece and writes it: the only way by which a peer's bytes come in.
func (t *task) accept(ctx context.Context, list *piece.List, i int, data mem.BufferSlice, from swarm.Peer, pushed bool) error {
	_, n := list.Bounds(i)
	if int64(data.Len()) != n {
		return &oci.MismatchError{Digest: t.digest, Piece: i}
	}
	if err := t.e.writing.Acquire(ctx, n); err != nil {
		return errors.Join(errOwn, err)
	}
	defer t.e.writing.Release(n)
	t.e.received(n, t.zoneOf(from))
	t.e.counters.piecesReceived.Add(1)
	parts := make([][]byte, len(data)) // as they came off the line: putting them together would cost a copy
	for k, part := range data {
		parts[k] = part.ReadOnlyData()
	}
	if err := t.check(ctx, list, i, parts); err != nil {
		return err
	}
	return t.write(list, i, from, pushed, parts...)
}

// check checks a piece, no more at once than the cores can hash.
func (t *task) check(ctx context.Context, list *piece.List, i int, parts [][]byte) error {
	select {
	case t.e.checking <- struct{}{}:
	case <-ctx.Done():
		return errors.Join(errOwn, ctx.Err())
	}
	defer func() { <-t.e.checking }()
	return list.Check(i, parts...)
}

// zoneOf is the zone of another node in the swarm; this node's own when it is not known.
func (t *task) zoneOf(p swarm.Peer) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.members[p]; m != nil {
		return m.node.Zone
	}
	return t.e.cfg.Self.Zone
}

// write stores a checked piece and tells the logic.
func (t *task) write(list *piece.List, i int, from swarm.Peer, pushed bool, parts ...[]byte) error {
	if err := t.put(list, i, parts); err != nil {
		return errors.Join(errOwn, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == list {
		t.stored(i, from, pushed)
	}
	return nil
}

// put writes a piece into the partial blob.
func (t *task) put(list *piece.List, i int, parts [][]byte) error {
	t.files.RLock()
	defer t.files.RUnlock()
	t.mu.Lock()
	partial, same := t.partial, t.list == list
	t.mu.Unlock()
	if !same || partial == nil {
		return errOtherList
	}
	return partial.WritePiece(i, parts...)
}

// report tells the operator of a piece that did not come as it should.
func (t *task) report(m *member, i int, err error) {
	_, lied := errors.AsType[*oci.MismatchError](err)
	switch {
	case lied:
		t.e.counters.mismatches.Add(1)
		t.log.Warn("peer sent a piece that does not match", slog.String("peer", m.node.ID), slog.Int("piece", i))
	case errors.Is(err, errOwn) && !errors.Is(err, errOtherList):
		t.log.Warn("piece not written", slog.Int("piece", i), slog.Any("error", err))
	}
}

// refused tells the logic why a piece did not come. The caller holds mu.
func (t *task) refused(m *member, r swarm.Request, err error) {
	now := t.e.now()
	_, lied := errors.AsType[*oci.MismatchError](err)
	switch {
	case lied:
		t.suspect(m, r.Piece, now)
	case errors.Is(err, errBusy):
		t.fetcher.Busy(r.Peer, r.Piece, now, 0)
	case errors.Is(err, errAbsent):
		t.fetcher.Failed(r.Peer, r.Piece, swarm.Gone, now)
	default:
		t.fetcher.Failed(r.Peer, r.Piece, swarm.Broken, now)
	}
}

// suspect blames whoever a mismatch is the fault of. A piece in the middle that does not match its list is the fault
// of the peer that sent it. The last piece also fails when the list was forged: then every source fails, and it is
// its issuer's fault. The caller holds mu.
func (t *task) suspect(m *member, i int, now time.Duration) {
	last := i == t.list.Count()-1
	if !last {
		t.fetcher.Failed(m.handle, i, swarm.Mismatch, now)
		t.goAstray(m.node.ID)
		return
	}
	t.fetcher.Failed(m.handle, i, swarm.Gone, now)
	if t.lastDoubts == nil {
		t.lastDoubts = make(map[string]struct{})
	}
	t.lastDoubts[m.node.ID] = struct{}{}
	if len(t.lastDoubts) >= 2 || m.node.ID == t.list.Issuer() {
		t.condemn(t.list)
	}
}

// piece answers a neighbour that asks for a piece.
func (e *Engine) piece(ctx context.Context, q *transferpb.PieceRequest) (*bulk.Message, error) {
	if err := peerid.Check(ctx, q.GetNode()); err != nil {
		return nil, err
	}
	head := &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_ABSENT}
	reply := &bulk.Message{Head: head}
	_, done, err := e.enter()
	if err != nil {
		return reply, nil
	}
	defer done()
	t := e.taskOf(ctx, q.GetDigest())
	if t == nil {
		return reply, nil
	}
	list, slot := t.admit(q, head)
	if list == nil {
		return reply, nil
	}
	if slot.over = underwayOf(ctx); slot.over != nil {
		slot.over.add(slot)
	}
	if err := e.upload.WaitN(ctx, int(slot.size)); err != nil {
		slot.end()
		return nil, err
	}
	buf, err := t.read(ctx, list, int(q.GetPiece()))
	if err != nil {
		slot.end()
		t.log.Warn("piece not readable", slog.Any("error", err))
		return reply, nil
	}
	e.counters.sentBytes.Add(slot.size)
	e.counters.piecesSent.Add(1)
	head.Status = transferpb.PieceReply_STATUS_OK
	reply.Data = mem.BufferSlice{mem.NewBuffer(buf, slot)}
	return reply, nil
}

// admit takes an upload slot for a request and gives the list that the piece belongs to, or says in head why not.
func (t *task) admit(q *transferpb.PieceRequest, head *transferpb.PieceReply) (*piece.List, *sending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := int(q.GetPiece())
	if t.done || t.fetcher == nil || !t.sameList(q.GetList()) || !t.fetcher.Has(i) {
		return nil, nil
	}
	handle, ok := t.handles[q.GetNode()]
	if !ok {
		return nil, nil
	}
	t.slots.empty(t.uploads)
	admitted := t.takeSlot(handle, i, q)
	head.Load = int32(t.uploads.Load())
	if !admitted {
		head.Status = transferpb.PieceReply_STATUS_BUSY
		t.e.counters.busy.Add(1)
		return nil, nil
	}
	_, n := t.list.Bounds(i)
	t.e.sending.Add(n)
	return t.list, &sending{t: t, to: handle, size: n, since: time.Now()}
}

// takeSlot takes an upload slot for a piece, if the seeding lets the piece go. That is asked last: a piece which it has
// let go counts as handed out. The caller holds mu.
func (t *task) takeSlot(to swarm.Peer, i int, q *transferpb.PieceRequest) bool {
	if t.e.sendRoom(t.list.PieceSize()) == 0 || !t.uploads.Admit(to, q.GetUrgent() || q.GetLone(), t.e.now()) {
		return false
	}
	if t.seeding() && !t.register.Seeder().Admit(to, i, q.GetLone()) {
		t.uploads.Done(to)
		return false
	}
	return true
}

// sameList tells whether a peer's pieces and this node's are checked by one list. A blob that is whole here has been
// proven, whoever issued its list. The caller holds mu.
func (t *task) sameList(id []byte) bool {
	if t.complete() {
		return true
	}
	mine := t.list.ID()
	return string(mine[:]) == string(id)
}

// taskOf is the task of a digest that a peer named. A blob that is on disk, whole or in part, gets a task, which serves it.
func (e *Engine) taskOf(ctx context.Context, text string) *task {
	d, err := oci.ParseDigest(text)
	if err != nil {
		return nil
	}
	if t := e.find(d); t != nil {
		return t
	}
	if _, err := e.store.Stat(d); err != nil && !e.store.HasPartial(d) {
		return nil
	}
	t, err := e.task(Want{Digest: d, held: true})
	if err != nil {
		return nil
	}
	t.wait(-1)
	select {
	case <-t.listed:
		return t
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return nil
	}
}
