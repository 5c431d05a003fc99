package catalog

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// server answers other nodes.
type server struct {
	catalogpb.UnimplementedCatalogServer
	catalog *Catalog
}

// Hello implements catalogpb.CatalogServer.
func (s *server) Hello(ctx context.Context, p *catalogpb.HelloRequest) (*catalogpb.HelloReply, error) {
	if err := peerid.Check(ctx, p.GetNode()); err != nil {
		return nil, err
	}
	return s.catalog.hello(), nil
}

// hello is what this node says of itself.
func (c *Catalog) hello() *catalogpb.HelloReply {
	c.mu.Lock()
	id, r, refusing := c.id, c.replica, c.refusing
	c.mu.Unlock()
	self, _ := c.parts.Farm.Lookup(c.cfg.Node)
	reply := &catalogpb.HelloReply{
		Node: c.cfg.Node, Boot: c.cfg.Boot, Catalog: id.Catalog, Raft: id.Raft, Replica: r != nil,
		Seeds: c.seeds, Seats: self.Seats, Accepted: id.Accepted.message(), Refused: refusing,
	}
	if r == nil {
		rt := c.route()
		reply.Leader, reply.Servers, reply.Term = rt.leader, rt.servers, rt.term
		return reply
	}
	reply.Leader, reply.LeaderRaft = r.leader()
	reply.Servers = r.wireServers()
	reply.Applied, reply.Commit, reply.Term = r.raft.AppliedIndex(), r.raft.CommitIndex(), r.raft.CurrentTerm()
	reply.Hosted, reply.Forced = !r.machine.view().Empty(), r.forced()
	return reply
}

func (r *replica) wireServers() []*catalogpb.Server {
	servers := r.servers()
	wire := make([]*catalogpb.Server, 0, len(servers))
	for _, s := range servers {
		name, node := readPlace(s.Address)
		wire = append(wire, &catalogpb.Server{Node: node, Raft: name, Voter: s.Suffrage == raft.Voter})
	}
	return wire
}

// Prepare implements catalogpb.CatalogServer.
func (s *server) Prepare(ctx context.Context, p *catalogpb.PrepareRequest) (*catalogpb.PrepareReply, error) {
	if err := peerid.Check(ctx, p.GetBallot().GetNode()); err != nil {
		return nil, err
	}
	var reply *catalogpb.PrepareReply
	err := s.catalog.do(ctx, func() (err error) {
		reply, err = s.catalog.prepare(p)
		return err
	})
	return reply, wireError(err)
}

// Accept implements catalogpb.CatalogServer.
func (s *server) Accept(ctx context.Context, p *catalogpb.AcceptRequest) (*catalogpb.AcceptReply, error) {
	if err := peerid.Check(ctx, p.GetBallot().GetNode()); err != nil {
		return nil, err
	}
	var reply *catalogpb.AcceptReply
	err := s.catalog.do(ctx, func() (err error) {
		reply, err = s.catalog.accept(p)
		return err
	})
	return reply, wireError(err)
}

// Learn implements catalogpb.CatalogServer.
func (s *server) Learn(ctx context.Context, p *catalogpb.LearnRequest) (*catalogpb.LearnReply, error) {
	err := s.catalog.do(ctx, func() error { return s.catalog.learn(readValue(p.GetValue())) })
	return &catalogpb.LearnReply{}, wireError(err)
}

// Join implements catalogpb.CatalogServer.
func (s *server) Join(ctx context.Context, p *catalogpb.JoinRequest) (*catalogpb.JoinReply, error) {
	if err := peerid.Check(ctx, p.GetLeader()); err != nil {
		return nil, err
	}
	reply := &catalogpb.JoinReply{}
	err := s.catalog.do(ctx, func() (err error) {
		reply.Raft, reply.Refusal, err = s.catalog.enlist(p.GetCatalog())
		return err
	})
	return reply, wireError(err)
}

// enlist starts a replica at the leader's wish.
func (c *Catalog) enlist(catalog string) (name, refusal string, err error) {
	id := c.identity()
	switch {
	case catalog == "":
		return "", "of which catalog?", nil
	case id.Replica && id.Catalog == catalog:
		return id.Raft, "", nil
	case id.Replica:
		return "", "keeps another catalog", nil
	}
	id.Catalog, id.Replica, id.Founded = catalog, true, true // it may have been meant to found one: not any more
	if err := c.become(id); err != nil {
		return "", "", err
	}
	return id.Raft, "", c.attach(id)
}

// Retire implements catalogpb.CatalogServer.
func (s *server) Retire(ctx context.Context, p *catalogpb.RetireRequest) (*catalogpb.RetireReply, error) {
	reply := &catalogpb.RetireReply{}
	err := s.catalog.do(ctx, func() error {
		id := s.catalog.identity()
		if !id.Replica || id.Catalog != p.GetCatalog() || id.Raft != p.GetRaft() {
			reply.Refusal = "no such replica here"
			return nil
		}
		return s.catalog.retire(id.Catalog)
	})
	return reply, wireError(err)
}

// Confirm implements catalogpb.CatalogServer. It must answer while the disk is slow: the term is in memory, and no vote
// goes out before it is there.
func (s *server) Confirm(_ context.Context, p *catalogpb.ConfirmRequest) (*catalogpb.ConfirmReply, error) {
	r := s.catalog.current()
	if r == nil || r.catalog != p.GetCatalog() || r.name != p.GetRaft() {
		return &catalogpb.ConfirmReply{Refusal: "no such replica here"}, nil
	}
	return &catalogpb.ConfirmReply{Term: r.raft.CurrentTerm()}, nil
}

// wireError keeps an error's text; conditions go in replies.
func wireError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}
