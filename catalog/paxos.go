package catalog

import (
	"context"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// decide proposes to found a catalog here. When the seeds have chosen before, or half chosen, it carries their choice
// through instead: two proposers never found two.
func (c *Catalog) decide(ctx context.Context, b ballot, s seats) {
	v := value{Catalog: newName(), Node: c.cfg.Node, Raft: c.identity().Raft}
	promises := make([]*catalogpb.PrepareReply, 0, len(s.by))
	c.each(ctx, s, func(ctx context.Context, node string, _ []string) any {
		return answer(c.askPrepare(ctx, node, b, s.by[node]))
	}, func(_ string, reply any) {
		promises = append(promises, reply.(*catalogpb.PrepareReply))
	})
	held, highest := 0, ballot{}
	for _, p := range promises {
		if c.heardOf(ctx, p.GetCatalog()) || c.outbid(b, readBallot(p.GetPromised())) || p.GetRefusal() != "" {
			continue
		}
		held += int(p.GetSeats())
		if before := readBallot(p.GetAcceptedBallot()); p.GetAccepted() != nil && before.compare(highest) >= 0 {
			highest, v = before, readValue(p.GetAccepted())
		}
	}
	if held < s.majority() || c.identity().Catalog != "" {
		return
	}
	held = 0
	c.each(ctx, s, func(ctx context.Context, node string, _ []string) any {
		return answer(c.askAccept(ctx, node, b, v, s.by[node]))
	}, func(_ string, reply any) {
		p := reply.(*catalogpb.AcceptReply)
		if !c.heardOf(ctx, p.GetCatalog()) && !c.outbid(b, readBallot(p.GetPromised())) && p.GetRefusal() == "" {
			held += int(p.GetSeats())
		}
	})
	if held < s.majority() {
		return
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "catalog decided", slog.String("catalog", v.Catalog), slog.String("node", v.Node))
	_ = c.do(ctx, func() error { return c.learn(v) })
	c.spread(ctx, v)
}

// answer is reply, or nil when there was an error.
func answer[T any](reply *T, err error) any {
	if err != nil || reply == nil {
		return nil
	}
	return reply
}

// each asks all that hold seats at once, and takes the answers one by one.
func (c *Catalog) each(ctx context.Context, s seats, ask func(context.Context, string, []string) any, take func(string, any)) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
	defer cancel()
	type said struct {
		node  string
		reply any
	}
	answers := make(chan said, len(s.by))
	var group errgroup.Group
	for node, held := range s.by {
		group.Go(func() error {
			answers <- said{node, ask(ctx, node, held)}
			return nil
		})
	}
	_ = group.Wait()
	close(answers)
	for a := range answers {
		if a.reply != nil {
			take(a.node, a.reply)
		}
	}
}

func (c *Catalog) askPrepare(ctx context.Context, node string, b ballot, held []string) (reply *catalogpb.PrepareReply, err error) {
	p := &catalogpb.PrepareRequest{Ballot: b.message(), Seeds: hashOf(c.seeds), Seats: held}
	if node == c.cfg.Node {
		err = c.do(ctx, func() (err error) {
			reply, err = c.prepare(p)
			return err
		})
		return reply, err
	}
	client, err := c.client(node)
	if err != nil {
		return nil, err
	}
	return client.Prepare(ctx, p)
}

func (c *Catalog) askAccept(ctx context.Context, node string, b ballot, v value, held []string) (reply *catalogpb.AcceptReply, err error) {
	p := &catalogpb.AcceptRequest{Ballot: b.message(), Seeds: hashOf(c.seeds), Seats: held, Value: v.message()}
	if node == c.cfg.Node {
		err = c.do(ctx, func() (err error) {
			reply, err = c.accept(p)
			return err
		})
		return reply, err
	}
	client, err := c.client(node)
	if err != nil {
		return nil, err
	}
	return client.Accept(ctx, p)
}

// spread tells all members what was decided. Who does not hear it asks sooner or later.
func (c *Catalog) spread(ctx context.Context, v value) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(askAtOnce)
	for _, m := range c.alive() {
		group.Go(func() error {
			if client, err := c.client(m.ID); err == nil {
				_, _ = client.Learn(ctx, &catalogpb.LearnRequest{Value: v.message()})
			}
			return nil
		})
	}
	_ = group.Wait()
}

// heardOf remembers a catalog that an acceptor knows.
func (c *Catalog) heardOf(ctx context.Context, catalog string) bool {
	if catalog == "" {
		return false
	}
	_ = c.do(ctx, func() error {
		id := c.identity()
		if id.Catalog != "" {
			return nil
		}
		id.Catalog = catalog
		return c.become(id)
	})
	return true
}

// outbid remembers a higher ballot.
func (c *Catalog) outbid(b, promised ballot) bool {
	if promised.compare(b) <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.founding.round = max(c.founding.round, promised.Round)
	return true
}

// refusesSeats says why a proposer does not count this node as it counts itself, or "".
func (c *Catalog) refusesSeats(hash string, held []string) string {
	self, _ := c.parts.Farm.Lookup(c.cfg.Node)
	own := c.listed(self.Seats)
	if hash != hashOf(c.seeds) {
		return "another seed list"
	}
	for _, seat := range held {
		if !slices.Contains(own, seat) {
			return "another node's seat"
		}
	}
	return ""
}

// prepare is the acceptor's part of Prepare.
func (c *Catalog) prepare(p *catalogpb.PrepareRequest) (*catalogpb.PrepareReply, error) {
	id := c.identity()
	if refusal := c.refusesSeats(p.GetSeeds(), p.GetSeats()); refusal != "" || id.Catalog != "" {
		return &catalogpb.PrepareReply{Refusal: refusal, Catalog: id.Catalog}, nil
	}
	promised, changed := id.prepare(readBallot(p.GetBallot()))
	if changed {
		if err := c.become(id); err != nil {
			return nil, err
		}
	}
	reply := &catalogpb.PrepareReply{Promised: id.Promised.message(), Seats: uint32(len(p.GetSeats()))}
	if promised {
		reply.AcceptedBallot, reply.Accepted = id.AcceptedBallot.message(), id.Accepted.message()
	}
	return reply, nil
}

// accept is the acceptor's part of Accept.
func (c *Catalog) accept(p *catalogpb.AcceptRequest) (*catalogpb.AcceptReply, error) {
	id := c.identity()
	if refusal := c.refusesSeats(p.GetSeeds(), p.GetSeats()); refusal != "" || id.Catalog != "" {
		return &catalogpb.AcceptReply{Refusal: refusal, Catalog: id.Catalog}, nil
	}
	if id.accept(readBallot(p.GetBallot()), readValue(p.GetValue())) {
		if err := c.become(id); err != nil {
			return nil, err
		}
	}
	return &catalogpb.AcceptReply{Promised: id.Promised.message(), Seats: uint32(len(p.GetSeats()))}, nil
}
