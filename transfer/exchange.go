package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

// An outbox holds what is to be sent on one stream, so that nobody who holds a lock ever waits for a peer.
type outbox struct {
	mu     sync.Mutex
	queue  []any
	signal chan struct{}
	over   chan struct{}
	once   sync.Once
}

// maxQueue is how many messages a peer that does not read may leave waiting before its stream is closed.
const maxQueue = 4096

func newOutbox() *outbox {
	return &outbox{signal: make(chan struct{}, 1), over: make(chan struct{})}
}

func (o *outbox) put(m any) {
	o.mu.Lock()
	o.queue = append(o.queue, m)
	full := len(o.queue) > maxQueue
	o.mu.Unlock()
	if full {
		o.close()
		return
	}
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []any {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queue
	o.queue = nil
	return q
}

func (o *outbox) close() { o.once.Do(func() { close(o.over) }) }

// errOver ends a stream that this side has finished with.
var errOver = errors.New("stream is over")

// pump sends what is put into the outbox until it is closed or the stream ends.
func (o *outbox) pump(ctx context.Context, send func(any) error) error {
	for {
		for _, m := range o.take() {
			if err := send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.over:
			return errOver
		case <-o.signal:
		}
	}
}

// haveStream is either side of an exchange.
type haveStream interface {
	Send(*transferpb.Haves) error
	Recv() (*transferpb.Haves, error)
	Context() context.Context
}

// member is the record of a node in this swarm; it is made if need be. One that nothing was exchanged with of late may
// have a connection that was closed since: it is looked up anew. The caller holds mu.
func (t *task) member(n Node) (*member, error) {
	h, ok := t.handles[n.ID]
	if !ok {
		h = t.next
		t.next++
		t.handles[n.ID] = h
	}
	m := t.members[h]
	if m != nil && len(m.outs) > 0 {
		return m, nil
	}
	p, err := t.e.peers.to(n.Address)
	if err != nil {
		return nil, err
	}
	if m == nil {
		m = &member{node: n, handle: h}
		t.members[h] = m
	}
	m.line.Store(p)
	return m, nil
}

// meet contacts nodes that the meeting point named, unless they are neighbours already.
func (t *task) meet(ctx context.Context, nodes []*transferpb.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		return // nothing to talk about yet
	}
	for _, n := range nodes {
		if n.GetId() == t.e.cfg.Self.ID || n.GetId() == "" || t.done {
			continue
		}
		m, err := t.member(Node{ID: n.GetId(), Address: n.GetAddress(), Zone: n.GetZone()})
		if err != nil || len(m.outs) > 0 || m.dialing {
			continue
		}
		m.dialing = true
		t.e.group.Go(func() {
			err := t.contact(ctx, m)
			t.mu.Lock()
			m.dialing = false
			t.mu.Unlock()
			if err != nil && !errors.Is(err, errOver) && ctx.Err() == nil {
				t.log.Debug("neighbour gone", slog.String("peer", m.node.ID), slog.Any("error", err))
			}
		})
	}
}

// contact opens an exchange with a neighbour and keeps it until either side ends.
func (t *task) contact(ctx context.Context, m *member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := m.peer().Exchange(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(t.hello()); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	return t.exchange(m, stream, first)
}

// hello is the first message of an exchange: who speaks, and what it has.
func (t *task) hello() *transferpb.Haves {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.list.ID()
	me := t.e.cfg.Self
	return &transferpb.Haves{
		Digest: t.digest.String(), List: id[:], Header: wireHeader(t.list.Header()),
		Bitmap: t.fetcher.Bitmap().Bytes(), Load: int32(t.uploads.Load()), Seeding: t.seeding(),
		Node: &transferpb.Node{Id: me.ID, Address: me.Address, Zone: me.Zone},
	}
}

// Exchange is the answering side of an exchange.
func (e *Engine) Exchange(stream transferpb.Transfer_ExchangeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := peerid.Check(stream.Context(), first.GetNode().GetId()); err != nil {
		return err
	}
	_, done, err := e.enter()
	if err != nil {
		return status.Error(codes.Unavailable, "not running")
	}
	defer done()
	t, err := e.exchanging(stream.Context(), first)
	if err != nil {
		return err
	}
	n := first.GetNode()
	t.mu.Lock()
	m, err := t.member(Node{ID: n.GetId(), Address: n.GetAddress(), Zone: n.GetZone()})
	t.mu.Unlock()
	if err != nil {
		return status.Error(codes.InvalidArgument, "no address")
	}
	if err := stream.Send(t.hello()); err != nil {
		return err
	}
	err = t.exchange(m, stream, first)
	if errors.Is(err, errOver) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// exchanging finds the task that an exchange is about. The peer may have heard of this node from the meeting point
// before this node has the list: that is waited for, a moment.
func (e *Engine) exchanging(ctx context.Context, first *transferpb.Haves) (*task, error) {
	t := e.taskOf(ctx, first.GetDigest())
	if t == nil || first.GetNode().GetId() == "" {
		return nil, status.Error(codes.NotFound, "not in this swarm")
	}
	wait := time.NewTimer(2 * time.Second)
	defer wait.Stop()
	select {
	case <-t.listed:
	case <-t.ended:
		return nil, status.Error(codes.NotFound, "not in this swarm any more")
	case <-wait.C:
		return nil, status.Error(codes.Unavailable, "no piece list yet")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return t, nil
}

// exchange tells a neighbour what comes in here and hears what comes in there.
func (t *task) exchange(m *member, stream haveStream, first *transferpb.Haves) error {
	out, err := t.enter(m, first)
	if err != nil {
		return err
	}
	defer t.leave(m, out)
	sent := make(chan error, 1)
	t.e.group.Go(func() {
		sent <- out.pump(stream.Context(), func(v any) error { return stream.Send(v.(*transferpb.Haves)) })
	})
	received := make(chan error, 1)
	t.e.group.Go(func() { received <- t.hear(m, stream) })
	// Whichever side ends first ends the exchange; the other goroutine ends with the stream.
	select {
	case err := <-sent:
		if c, ok := stream.(transferpb.Transfer_ExchangeClient); ok && errors.Is(err, errOver) {
			_ = c.CloseSend()
		}
		return err
	case err := <-received:
		return err
	}
}

// enter makes the peer a neighbour with what it has.
func (t *task) enter(m *member, first *transferpb.Haves) (*outbox, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil, errOver
	}
	have, err := t.compatible(first)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	offered := have
	if m.abroad = nil; m.node.Zone != t.e.cfg.Self.Zone && !t.imports {
		m.abroad, offered = have, nil
	}
	if !t.fetcher.AddPeer(m.handle, swarm.PeerInfo{SameZone: m.node.Zone == t.e.cfg.Self.Zone, Seeding: first.GetSeeding()}, offered) {
		return nil, status.Error(codes.ResourceExhausted, "no room for another neighbour")
	}
	t.fetcher.Load(m.handle, int(first.GetLoad()))
	if t.register != nil && have.Full() {
		t.register.Join(m.handle, m.node.Zone, have, 0)
	}
	out := newOutbox()
	m.outs = append(m.outs, out)
	t.wake()
	return out, nil
}

// compatible tells whether a peer's pieces can be checked here, and gives them. They can when both go by one list, or
// when either side's list is proven and cuts the blob alike. The caller holds mu.
func (t *task) compatible(first *transferpb.Haves) (*piece.Bitmap, error) {
	h := first.GetHeader()
	if h.GetSize() != t.list.Size() || h.GetPieceSize() != t.list.PieceSize() {
		return nil, errors.New("another list of this blob")
	}
	have, err := piece.BitmapFromBytes(t.list.Count(), first.GetBitmap())
	if err != nil {
		return nil, err
	}
	if !t.sameList(first.GetList()) && !have.Full() {
		return nil, errors.New("another list of this blob")
	}
	return have, nil
}

// leave takes a stream of a neighbour away, and the neighbour with its last one.
func (t *task) leave(m *member, out *outbox) {
	out.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range m.outs {
		if o == out {
			m.outs = append(m.outs[:i], m.outs[i+1:]...)
			break
		}
	}
	if len(m.outs) == 0 && t.members[m.handle] == m {
		t.fetcher.RemovePeer(m.handle)
		t.wake()
	}
}

// offer takes in that a neighbour has pieces. The caller holds mu.
func (t *task) offer(m *member, pieces []uint32) {
	if m.abroad == nil {
		t.fetcher.Have(m.handle, pieces)
		return
	}
	for _, i := range pieces {
		if int64(i) < int64(m.abroad.Len()) {
			m.abroad.Set(int(i))
		}
	}
}

// goAbroad lets a node that gets on no more take pieces from other zones. The caller holds mu.
func (t *task) goAbroad() {
	for _, m := range t.members {
		if m.abroad != nil && len(m.outs) > 0 {
			t.fetcher.AddPeer(m.handle, swarm.PeerInfo{}, m.abroad)
			m.abroad = nil
		}
	}
}

// hear takes in what a neighbour says.
func (t *task) hear(m *member, stream haveStream) error {
	for {
		h, err := stream.Recv()
		if err != nil {
			return err
		}
		pieces := h.GetPieces()
		t.mu.Lock()
		if t.members[m.handle] != m {
			t.mu.Unlock()
			return errOver
		}
		t.offer(m, pieces)
		t.fetcher.Load(m.handle, int(h.GetLoad()))
		t.fetcher.SetSeeding(m.handle, h.GetSeeding())
		if t.register != nil {
			t.register.Have(m.handle, pieces)
			t.register.Seeder().Elsewhere(pieces)
		}
		t.mu.Unlock()
		t.wake()
	}
}
