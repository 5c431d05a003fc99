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
		t.mu.Lock()
		defer t.mu.Unlock()
		cancelled := ctx.Err() != nil // by this side, which no longer needs the piece from there
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
	reply := &bulk{head: head}
	err := m.peer.conn.Invoke(ctx, transferpb.Transfer_Piece_FullMethodName, &transferpb.PieceRequest{
		Digest: t.digest.String(), List: id[:], Piece: int32(r.Piece), Node: t.e.cfg.Self.ID, Lone: r.LastResort, Urgent: r.Urgent(),
	}, reply)
	if err != nil {
		return err
	}
	defer reply.free()
	t.mu.Lock()
	t.fetcher.Load(r.Peer, int(head.GetLoad()))
	t.mu.Unlock()
	switch head.GetStatus() {
	case transferpb.PieceReply_STATUS_OK:
		return t.accept(list, r.Piece, reply.data, r.Peer, false)
	case transferpb.PieceReply_STATUS_BUSY:
		return errBusy
	default:
		return errAbsent
	}
}

// accept checks a piece and writes it: the only way by which a peer's bytes come in.
func (t *task) accept(list *piece.List, i int, data mem.BufferSlice, from swarm.Peer, pushed bool) error {
	_, n := list.Bounds(i)
	if int64(data.Len()) != n {
		return &oci.MismatchError{Digest: t.digest, Piece: i}
	}
	// No more at once than the cores can hash: each has a buffer.
	t.e.checking <- struct{}{}
	defer func() { <-t.e.checking }()
	buf := t.e.buffer(n)
	defer t.e.recycle(buf)
	data.CopyTo(*buf)
	t.e.counters.receivedBytes.Add(n)
	t.e.counters.piecesReceived.Add(1)
	if t.zoneOf(from) != t.e.cfg.Self.Zone {
		t.e.counters.crossZone.Add(n)
	}
	if err := list.Check(i, *buf); err != nil {
		return err
	}
	return t.write(list, i, *buf, from, pushed)
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
func (t *task) write(list *piece.List, i int, data []byte, from swarm.Peer, pushed bool) error {
	t.mu.Lock()
	partial := t.partial
	same := t.list == list
	t.mu.Unlock()
	if !same || partial == nil {
		return errOwn
	}
	if err := partial.WritePiece(i, data); err != nil {
		return errors.Join(errOwn, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == list {
		t.stored(i, from, pushed)
	}
	return nil
}

// refused tells the logic why a piece did not come. The caller holds mu.
func (t *task) refused(m *member, r swarm.Request, err error) {
	now := t.e.now()
	bad, lied := errors.AsType[*oci.MismatchError](err)
	switch {
	case lied:
		t.e.counters.mismatches.Add(1)
		t.log.Warn("peer sent a piece that does not match", slog.String("peer", m.node.ID), slog.Int("piece", bad.Piece))
		t.suspect(m, r.Piece, now)
	case errors.Is(err, errBusy):
		t.fetcher.Busy(r.Peer, r.Piece, now, 0)
	case errors.Is(err, errAbsent):
		t.fetcher.Failed(r.Peer, r.Piece, swarm.Gone, now)
	case errors.Is(err, errOwn):
		t.log.Warn("piece not written", slog.Int("piece", r.Piece), slog.Any("error", err))
		t.fetcher.Failed(r.Peer, r.Piece, swarm.Broken, now)
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
func (e *Engine) piece(ctx context.Context, q *transferpb.PieceRequest) (*bulk, error) {
	head := &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_ABSENT}
	reply := &bulk{head: head}
	t := e.taskOf(q.GetDigest())
	if t == nil {
		return reply, nil
	}
	list := t.admit(q, head)
	if list == nil {
		return reply, nil
	}
	defer e.group.Done()
	_, n := list.Bounds(int(q.GetPiece()))
	if err := e.upload.WaitN(ctx, int(n)); err != nil {
		t.sent(q.GetNode())
		return nil, err
	}
	t.e.sending.Add(n)
	done := func() {
		t.e.sending.Add(-n)
		t.sent(q.GetNode())
	}
	buf, err := t.read(ctx, list, int(q.GetPiece()))
	if err != nil {
		done()
		t.log.Warn("piece not readable", slog.Any("error", err))
		return reply, nil
	}
	e.counters.sentBytes.Add(n)
	e.counters.piecesSent.Add(1)
	head.Status = transferpb.PieceReply_STATUS_OK
	// The slot is free again once the bytes have left for the socket, which is when gRPC frees the buffer.
	reply.data = mem.BufferSlice{mem.NewBuffer(buf, slotPool{e, done})}
	return reply, nil
}

// admit takes an upload slot for a request and gives the list that the piece belongs to, or says in head why not. With
// a list the caller owes group.Done.
func (t *task) admit(q *transferpb.PieceRequest, head *transferpb.PieceReply) *piece.List {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := int(q.GetPiece())
	if t.done || t.fetcher == nil || !t.sameList(q.GetList()) || !t.fetcher.Has(i) {
		return nil
	}
	handle, ok := t.handles[q.GetNode()]
	if !ok {
		return nil
	}
	seedOK := !t.seeding() || t.register.Seeder().Admit(handle, i, q.GetLone())
	if !seedOK || t.e.sendRoom(t.list.PieceSize()) == 0 || !t.uploads.Admit(handle, q.GetUrgent() || q.GetLone(), t.e.now()) {
		head.Status = transferpb.PieceReply_STATUS_BUSY
		head.Load = int32(t.uploads.Load())
		t.e.counters.busy.Add(1)
		return nil
	}
	head.Load = int32(t.uploads.Load())
	t.e.group.Add(1)
	return t.list
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

// sent gives an upload slot back.
func (t *task) sent(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uploads.Done(t.handles[node])
	t.wake()
}

// A slotPool is a mem.BufferPool of one buffer: it takes the buffer back and tells that it has been sent.
type slotPool struct {
	e    *Engine
	sent func()
}

func (p slotPool) Get(n int) *[]byte { return p.e.buffer(int64(n)) }

func (p slotPool) Put(b *[]byte) {
	p.e.recycle(b)
	p.sent()
}

// taskOf is the task of a digest that a peer named. A blob that is whole on disk gets a task, which serves it.
func (e *Engine) taskOf(text string) *task {
	d, err := oci.ParseDigest(text)
	if err != nil {
		return nil
	}
	if t := e.find(d); t != nil {
		return t
	}
	if _, err := e.store.Stat(d); err != nil {
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
	}
}
