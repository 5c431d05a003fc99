package catalog

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// founding is how far this node is with founding a catalog.
type founding struct {
	since  time.Time // a majority of the seeds has been in contact since, or zero
	round  uint64    // the highest round that was heard of
	asking bool      // a proposal is under way
	again  time.Time // no proposal before
}

// step looks at who is there and goes on from what the node is: towards a catalog while there is none, out of it when
// the leader says that the replica is none any more.
func (c *Catalog) step(ctx context.Context) error {
	c.forgetPeers()
	id := c.identity()
	if id.Replica {
		return c.stepReplica()
	}
	if v, ok := c.named(id); ok {
		return c.learn(v)
	}
	if id.Catalog == "" {
		return c.stepNone(ctx, id)
	}
	return c.stepClient(id)
}

// named is the decision that made this replica the first voter, if another node has heard of it and this one has not.
func (c *Catalog) named(id identity) (value, bool) {
	for _, reply := range c.fresh() {
		v := readValue(reply.GetAccepted())
		if v.Raft == id.Raft && v.Node == c.cfg.Node && v.Catalog == reply.GetCatalog() && v.Catalog != "" && !id.Founded {
			return v, true
		}
	}
	return value{}, false
}

// stepClient shows whether the catalog that this node knows of can be asked, and follows it when it is given up for
// another.
func (c *Catalog) stepClient(id identity) error {
	if c.route().leader != "" {
		c.show(NonVoter)
		return nil
	}
	c.show(c.waitingState(id))
	for _, reply := range c.fresh() {
		// Nobody here holds anything of the old one; of the new one a leader is known.
		if reply.GetReplica() && reply.GetLeader() != "" && reply.GetCatalog() != id.Catalog && !reply.GetRefused() {
			id.Catalog = reply.GetCatalog()
			return c.become(id)
		}
	}
	return nil
}

// waitingState is what a node waits for that knows of a catalog and reaches nobody who leads it.
func (c *Catalog) waitingState(id identity) State {
	if c.cfg.Former == "" || id.Catalog != c.cfg.Former {
		return WaitingForCatalog
	}
	for _, reply := range c.fresh() {
		if reply.GetReplica() {
			return WaitingForCatalog
		}
	}
	return CatalogLost
}

// stepNone is what a node does that has never heard of a catalog.
func (c *Catalog) stepNone(ctx context.Context, id identity) error {
	replies := c.fresh()
	for _, reply := range replies {
		if reply.GetCatalog() != "" {
			id.Catalog = reply.GetCatalog()
			return c.become(id)
		}
	}
	c.mu.Lock()
	polls, asking := c.polls, c.founding.asking
	c.mu.Unlock()
	switch {
	case len(c.seeds) == 0:
		if len(c.alive()) > 0 && polls < 2 {
			return nil // others are there already: this directory may have been emptied
		}
		return c.learn(value{Catalog: newName(), Node: c.cfg.Node, Raft: id.Raft})
	case asking:
		return nil
	}
	seats := c.seats(replies)
	if len(seats.own) == 0 {
		c.show(WaitingForCatalog)
		return nil
	}
	if seats.rival {
		c.show(SeedListsDiffer)
		c.waitAgain()
		return nil
	}
	if seats.held < seats.majority() {
		c.show(waitingForSeeds(seats.held, len(c.seeds)))
		if seats.differ {
			c.show(SeedListsDiffer)
		}
		c.waitAgain()
		return nil
	}
	c.show(waitingForSeeds(seats.held, len(c.seeds)))
	c.propose(ctx, seats, len(replies) > 0)
	return nil
}

func (c *Catalog) waitAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.founding.since = time.Time{}
}

// seats are the places on the seed list and who holds them.
type seats struct {
	total  int
	own    []string
	by     map[string][]string // node -> its seats, of those in contact with an identical list; this node among them
	held   int                 // seats in by
	rank   int                 // how many of the nodes in by come first
	differ bool                // a seed has another list
	rival  bool                // another list could get a majority of its own
}

func (s seats) majority() int { return s.total/2 + 1 }

// seats counts who of the seed list is in contact and has the same list.
func (c *Catalog) seats(replies map[string]*catalogpb.HelloReply) seats {
	self, _ := c.parts.Farm.Lookup(c.cfg.Node)
	own := c.listed(self.Seats)
	s := seats{total: len(c.seeds), own: own, by: map[string][]string{c.cfg.Node: own}, held: len(own)}
	taken := map[string]bool{}
	for _, seat := range own {
		taken[seat] = true
	}
	for _, node := range slices.Sorted(maps.Keys(replies)) {
		reply := replies[node]
		m, ok := c.parts.Farm.Lookup(node)
		if !ok || !m.Gone.IsZero() {
			continue
		}
		if !slices.Equal(canonical(reply.GetSeeds()), c.seeds) {
			s.differ = s.differ || len(c.listed(m.Seats)) > 0
			s.rival = s.rival || c.rival(reply, replies)
			continue
		}
		// A seat counts when both think that it is that node's, and nobody else's.
		var both []string
		for _, seat := range c.listed(m.Seats) {
			if slices.Contains(canonical(reply.GetSeats()), seat) && !taken[seat] {
				taken[seat] = true
				both = append(both, seat)
			}
		}
		if len(both) > 0 {
			s.by[node] = both
			s.held += len(both)
			if strings.Join(both, "\n") < strings.Join(own, "\n") {
				s.rank++
			}
		}
	}
	return s
}

// listed are those entries that are on the seed list.
func (c *Catalog) listed(entries []string) []string {
	return slices.DeleteFunc(canonical(entries), func(e string) bool { return !slices.Contains(c.seeds, e) })
}

// rival tells whether the list of a peer that holds a seat on it could still get a majority, given those that are known
// to have other lists.
func (c *Catalog) rival(reply *catalogpb.HelloReply, replies map[string]*catalogpb.HelloReply) bool {
	theirs := canonical(reply.GetSeeds())
	if len(theirs) == 0 || len(reply.GetSeats()) == 0 {
		return false
	}
	open := len(theirs)
	self, _ := c.parts.Farm.Lookup(c.cfg.Node)
	for _, seat := range canonical(self.Seats) {
		if slices.Contains(theirs, seat) {
			open--
		}
	}
	for _, other := range replies {
		if slices.Equal(canonical(other.GetSeeds()), theirs) {
			continue
		}
		for _, seat := range canonical(other.GetSeats()) {
			if slices.Contains(theirs, seat) {
				open--
			}
		}
	}
	return open >= len(theirs)/2+1
}

// propose starts a proposal when it is this node's turn.
func (c *Catalog) propose(ctx context.Context, s seats, company bool) {
	now := time.Now()
	c.mu.Lock()
	f := &c.founding
	if f.since.IsZero() {
		f.since = now
	}
	wait := time.Duration(s.rank) * c.cfg.Turn
	if len(s.by) == 1 {
		// No other seed is asked. Members could: some of them may keep a catalog that this directory has lost.
		wait = c.cfg.Alone
		if company {
			wait = c.cfg.Turn
		}
	}
	if now.Sub(f.since) < wait || now.Before(f.again) {
		c.mu.Unlock()
		return
	}
	f.asking = true
	f.again = now.Add(c.cfg.Turn + time.Duration(s.rank)*c.cfg.Turn)
	f.round = max(f.round, c.id.Promised.Round) + 1
	b := ballot{f.round, c.cfg.Node}
	c.mu.Unlock()
	c.asking.Go(func() {
		c.decide(ctx, b, s)
		c.mu.Lock()
		c.founding.asking = false
		c.mu.Unlock()
	})
}

// learn makes the decision known here. The first voter begins the catalog; the others wait to be asked.
func (c *Catalog) learn(v value) error {
	id := c.identity()
	if id.Replica || v.Catalog == "" {
		return nil
	}
	if id.Catalog != "" && id.Catalog != v.Catalog {
		return nil // heard of another one meanwhile
	}
	if id.Catalog == v.Catalog && (v.Raft != id.Raft || id.Founded) {
		return nil
	}
	id.Catalog, id.Accepted = v.Catalog, v
	if v.Raft != id.Raft || v.Node != c.cfg.Node {
		return c.become(id)
	}
	id.Replica = true
	if err := c.become(id); err != nil {
		return err
	}
	c.log.LogAttrs(context.Background(), slog.LevelInfo, "catalog founded", slog.String("catalog", v.Catalog))
	return c.attach(id)
}
