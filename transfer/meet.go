package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

const (
	mostNeighbours = 24 // that a node gets when it registers
	fewNeighbours  = 4  // that a node gets which has all it needs
	pushSlots      = 4  // pieces that a source pushes at once
	pushesEach     = 2  // of these, to one node
)

// Register lets a node into the swarm of a blob, for as long as it stays on the line.
func (e *Engine) Register(stream transferpb.Transfer_RegisterServer) error {
	q, err := stream.Recv()
	if err != nil {
		return err
	}
	d, err := oci.ParseDigest(q.GetDigest())
	if err != nil || q.GetNode().GetId() == "" {
		return status.Error(codes.InvalidArgument, "no digest or no node")
	}
	if err := peerid.Check(stream.Context(), q.GetNode().GetId()); err != nil {
		return err
	}
	_, done, err := e.enter()
	if err != nil {
		return status.Error(codes.Unavailable, "not running")
	}
	defer done()
	e.lost.remove(q.GetNode().GetId())
	e.directory.Observe(q.GetNode().GetId(), q.GetRingHash())
	e.holders.hear(d, q)
	// A sign of life at once: what follows may have to wait for the upstream.
	if err := stream.Send(&transferpb.RegisterReply{}); err != nil {
		return err
	}
	repo := repositoryOf(q)
	e.hearRight(repo, q.GetRight())
	later := e.listenTo(stream)
	for {
		t, redirect, err := e.meetingPoint(d, repo, q)
		if err != nil {
			return stream.Send(&transferpb.RegisterReply{Error: wireError(err)})
		}
		if redirect != "" {
			return stream.Send(&transferpb.RegisterReply{
				Redirect: redirect, Members: e.directory.Snapshot(), Neighbours: e.introductions(repo, d, redirect, q),
			})
		}
		s := &session{e: e, t: t, stream: stream, out: newOutbox()}
		later.serve(s)
		err = s.run(stream.Context(), q, repo, later)
		t.wait(-1)
		if !errors.Is(err, errForeign) {
			return err
		}
	}
}

// errForeign says that a swarm ended because of a repository that the node which registers has not asked through.
var errForeign = errors.New("the blob was not to be had through another repository")

// meetingPoint is the task that serves a node that registers, with a waiter counted; or where the node must go.
func (e *Engine) meetingPoint(d oci.Digest, repo oci.Repository, q *transferpb.RegisterRequest) (*task, string, error) {
	want := Want{Repository: repo, Digest: d, Size: q.GetSize(), Ahead: q.GetAhead()}
	past := slices.Concat(q.GetLost(), q.GetTried(), e.lost.ids(), []string{q.GetNode().GetId()})
	if t := e.find(d); t != nil {
		at, leads := t.follows()
		if !leads && at == "" {
			at = e.holders.of(d, past) // where this node is about to go
		}
		if at != "" && !slices.Contains(past, at) {
			return nil, at, nil // one swarm, and not a chain of them
		}
		t, err := e.task(want)
		return t, "", err
	}
	if _, err := e.store.Stat(d); err == nil {
		t, err := e.task(want)
		return t, "", err
	}
	if holder := e.holders.of(d, past); holder != "" {
		return nil, holder, nil
	}
	if e.leases.has(d) {
		t, err := e.task(want) // it alone reads the upstream, whatever the ring says
		return t, "", err
	}
	lost := append(slices.Clone(q.GetLost()), e.lost.ids()...)
	view := e.directory.View()
	owner := view.OwnerWithout(d, lost...)
	if zone := q.GetNode().GetZone(); zone == e.cfg.Self.Zone && view.ZoneOwnerWithout(d, zone, lost...) == e.cfg.Self.ID {
		t, err := e.task(want) // this node imports for the zone
		return t, "", err
	}
	if owner == "" || owner == e.cfg.Self.ID || e.goesRound(q, owner) {
		t, err := e.task(want)
		return t, "", err
	}
	return nil, owner, nil // also the node itself: it was sent here for a blob that is gone, and owns it
}

// follows is the node at which this one has joined the swarm, if it has. leads tells whether the swarm meets here: this
// node reads the upstream, has all, or fetches for its zone.
func (t *task) follows() (at string, leads bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source || t.meeting || t.imports || t.done {
		return "", true
	}
	return t.at, false
}

// A session is one node's registration with this meeting point.
type session struct {
	e      *Engine
	t      *task
	stream transferpb.Transfer_RegisterServer
	out    *outbox
	m      *member
	list   *piece.List
	known  int // its midstates that the node has been sent
}

// heartbeat is how often a registered node hears from its meeting point at least.
const heartbeat = time.Second

// run serves the node until it hangs up.
func (s *session) run(ctx context.Context, q *transferpb.RegisterRequest, repo oci.Repository, later *listener) error {
	if err := s.await(ctx, s.t.listed); err != nil {
		if foreign(err) && s.t.repository() != repo {
			return errForeign
		}
		return s.sendError(err)
	}
	if err := s.confirm(ctx, repo); err != nil {
		return s.sendError(err)
	}
	if inline, ok, err := s.inline(ctx); err != nil {
		return s.sendError(err)
	} else if ok {
		return s.sendInline(ctx, inline)
	}
	if err := s.enter(q); err != nil {
		return err
	}
	defer s.leave()
	close(later.entered)
	return s.talk(ctx, later.gone)
}

// await waits for a step of the task while the node hears that this one lives.
func (s *session) await(ctx context.Context, step <-chan struct{}) error {
	beat := time.NewTicker(heartbeat / 2)
	defer beat.Stop()
	for {
		select {
		case <-step:
			return nil
		case <-s.t.ended:
			select {
			case <-step:
				return nil
			default:
			}
			if err := s.t.failure(); err != nil {
				return err
			}
			return fmt.Errorf("swarm ended: %w", oci.ErrUnavailable)
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := s.stream.Send(&transferpb.RegisterReply{Waits: s.t.waits()}); err != nil {
				return err
			}
		}
	}
}

// confirm makes sure that the repository itself has the blob: a manifest there may name any digest.
func (s *session) confirm(ctx context.Context, repo oci.Repository) error {
	if repo == (oci.Repository{}) || s.e.isHosted(repo) || s.t.vouchedFor(repo) {
		return nil
	}
	result := make(chan struct{})
	var err error
	s.e.group.Go(func() {
		defer close(result)
		_, err = s.e.documents.Document(ctx, Question{Kind: Confirm, Repository: repo, Reference: s.t.digest.String()})
	})
	if e := s.await(ctx, result); e != nil {
		select {
		case <-result: // the task ended and so did the question
			return err
		default:
			return e
		}
	}
	return err
}

// vouchedFor tells whether the fetch itself has shown that repo has the blob.
func (t *task) vouchedFor(repo oci.Repository) bool {
	select {
	case <-t.vouched:
		return t.repository() == repo
	default:
		return false
	}
}

func (s *session) sendError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrStopped) || errors.Is(err, errAbandoned) {
		return status.Error(codes.Unavailable, "leaving")
	}
	return s.stream.Send(&transferpb.RegisterReply{Error: wireError(err)})
}

// enter puts the node into the register and sends what it needs to begin.
func (s *session) enter(q *transferpb.RegisterRequest) error {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return status.Error(codes.Unavailable, "leaving")
	}
	n := Node{ID: q.GetNode().GetId(), Address: q.GetNode().GetAddress(), Zone: q.GetNode().GetZone()}
	m, err := t.member(n)
	if err != nil {
		return status.Error(codes.InvalidArgument, "no address")
	}
	s.m, s.list = m, t.list
	m.guests = append(m.guests, s.out)
	t.openRegister()
	want := max(fewNeighbours, mostNeighbours-int(q.GetNeighbours()))
	neighbours := t.register.Join(m.handle, n.Zone, t.applicantHas(q), want)
	s.known = 1
	s.out.put(&transferpb.RegisterReply{List: wireHeader(t.list.Header())})
	s.putMidstates()
	s.out.put(&transferpb.RegisterReply{Neighbours: append(t.nodes(neighbours), s.e.introductions(repositoryOf(q), t.digest, "", q)...)})
	t.wake()
	return nil
}

// openRegister makes this node the meeting point. The caller holds mu.
func (t *task) openRegister() {
	if t.register != nil {
		return
	}
	cfg := swarm.DefaultRegister(t.list.Count())
	cfg.Zone = t.e.cfg.Self.Zone
	// Few pushes at once: on a slow link each then arrives sooner, and goes on to the others sooner.
	cfg.Seeder.Slots, cfg.Seeder.PerPeer = pushSlots, pushesEach
	cfg.Importer = t.importer
	cfg.Connected = t.connected
	t.register = swarm.NewRegister(cfg, newRand())
	have := t.fetcher.Bitmap()
	t.register.JoinOwner(self, have)
	if !t.seeds() {
		return // what this node has it got from others
	}
	for i := have.Next(0); i >= 0; i = have.Next(i + 1) {
		t.register.Seeder().Add(i)
	}
}

// importer is the node of a zone that fetches for it: its owner on the zone's own ring. The caller holds mu.
func (t *task) importer(zone string) (swarm.Peer, bool) {
	h, ok := t.handles[t.e.directory.View().ZoneOwner(t.digest, zone)]
	return h, ok
}

// connected tells whether this node has a connection to a pair of nodes already, as far as it can know. The caller
// holds mu.
func (t *task) connected(a, b swarm.Peer) bool {
	if a != self && b != self {
		return false
	}
	m := t.members[max(a, b)]
	return m != nil && t.e.peers.known(m.node.Address)
}

// applicantHas is what a node that registers has, if it can be checked by this swarm's list. The caller holds mu.
func (t *task) applicantHas(q *transferpb.RegisterRequest) *piece.Bitmap {
	list, err := localList(q.GetList(), nil)
	if err != nil || list.ID() != t.list.ID() {
		return nil
	}
	have, err := piece.BitmapFromBytes(list.Count(), q.GetHave())
	if err != nil {
		return nil
	}
	return have
}

// nodes is how handles are told to a peer. The caller holds mu.
func (t *task) nodes(handles []swarm.Peer) []*transferpb.Node {
	var out []*transferpb.Node
	for _, h := range handles {
		if h == self {
			me := t.e.cfg.Self
			out = append(out, &transferpb.Node{Id: me.ID, Address: me.Address, Zone: me.Zone})
		} else if m := t.members[h]; m != nil {
			out = append(out, &transferpb.Node{Id: m.node.ID, Address: m.node.Address, Zone: m.node.Zone})
		}
	}
	return out
}

// putMidstates queues the midstates that the node has not been sent.
func (s *session) putMidstates() {
	states := s.list.Midstates(s.known)
	if len(states) == 0 {
		return
	}
	s.out.put(&transferpb.RegisterReply{MidstatesFrom: int32(s.known), Midstates: states})
	s.known += len(states) / stateSize(s.t.digest)
}

func stateSize(d oci.Digest) int { return len(d.Hex()) / 2 }

func (s *session) leave() {
	s.out.close()
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	s.m.guests = slices.DeleteFunc(s.m.guests, func(o *outbox) bool { return o == s.out })
	if len(s.m.guests) == 0 && t.register != nil {
		t.register.Leave(s.m.handle)
	}
	t.wake()
}

// talk sends midstates as they become known, and signs of life.
func (s *session) talk(ctx context.Context, gone <-chan error) error {
	beat := time.NewTicker(heartbeat / 2)
	defer beat.Stop()
	for {
		grown := s.list.Grown()
		s.putMidstates()
		for _, m := range s.out.take() {
			if err := s.stream.Send(m.(*transferpb.RegisterReply)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gone:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-s.out.over:
			return s.over()
		case <-s.out.signal:
		case <-grown:
		case <-beat.C:
			s.out.put(&transferpb.RegisterReply{})
		}
	}
}

// over tells the node why this side ends the registration.
func (s *session) over() error {
	if err := s.t.failure(); err != nil {
		return s.sendError(err)
	}
	return status.Error(codes.Unavailable, "leaving")
}

// report takes in what the node reports later.
func (s *session) report(q *transferpb.RegisterRequest) {
	t := s.t
	t.mu.Lock()
	if t.register != nil && q.GetMore() {
		more := t.register.More(s.m.handle, max(fewNeighbours, mostNeighbours-int(q.GetNeighbours())), q.GetStalled())
		s.out.put(&transferpb.RegisterReply{Neighbours: t.nodes(more)})
	}
	if t.register != nil && q.GetComplete() {
		t.register.Join(s.m.handle, s.m.node.Zone, piece.FullBitmap(t.list.Count()), 0)
		t.e.holders.add(t.digest, s.m.node.ID)
	}
	t.mu.Unlock()
	t.wake()
}
