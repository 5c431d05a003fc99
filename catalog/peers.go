package catalog

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

const (
	askAtOnce   = 16 // questions under way
	askAll      = 64 // members that are asked while nothing is known; of more, as many at random
	askStranger = 1  // members that are asked at random when all is well: another catalog shows this way
)

// poll asks peers what they are, round by round.
func (c *Catalog) poll(ctx context.Context) error {
	for {
		c.askRound(ctx)
		wait := c.cfg.Poll / 2
		if c.current() == nil && c.route().leader != "" {
			wait = 4 * c.cfg.Poll // clients are many
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (c *Catalog) askRound(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(askAtOnce)
	for _, node := range c.whomToAsk() {
		group.Go(func() error {
			c.askOne(ctx, node)
			return nil
		})
	}
	_ = group.Wait()
	c.mu.Lock()
	c.polls++
	c.mu.Unlock()
}

func (c *Catalog) askOne(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
	defer cancel()
	client, err := c.client(node)
	if err != nil {
		return
	}
	reply, err := client.Hello(ctx, &catalogpb.HelloRequest{Node: c.cfg.Node})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || reply.GetNode() != node {
		delete(c.peers, node) // what it said before is no more to go by
		return
	}
	c.peers[node] = heard{reply, time.Now()}
	if reply.GetReplica() {
		c.seen[reply.GetRaft()] = time.Now()
	}
}

// whomToAsk are the members for the next round: those that keep replicas and a stranger, or nearly everyone while it is
// not known who keeps one.
func (c *Catalog) whomToAsk() []string {
	alive := c.alive()
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	route := c.route()
	replica := c.current() != nil
	limit := askAll
	if route.leader != "" {
		limit = askStranger
	}
	var nodes []string
	for _, s := range route.servers {
		// A client asks the leader; those that keep a replica ask each other.
		if s.GetNode() != c.cfg.Node && (replica || route.leader == "" || s.GetNode() == route.leader) {
			nodes = append(nodes, s.GetNode())
		}
	}
	for i, m := range alive {
		if i < limit || (len(m.Seats) > 0 && route.leader == "") {
			nodes = append(nodes, m.ID)
		}
	}
	catalog := c.identity().Catalog
	for _, reply := range c.fresh() {
		if leader := reply.GetLeader(); replica && reply.GetCatalog() != catalog && leader != "" && leader != c.cfg.Node {
			nodes = append(nodes, leader) // of another catalog: only it can tell what that has
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// staleAfter is how many polls a reply is good for; clients ask every fourth.
const staleAfter = 10

// fresh are the replies that are not too old to go by. One that was not answered again is not among them.
func (c *Catalog) fresh() map[string]*catalogpb.HelloReply {
	c.mu.Lock()
	defer c.mu.Unlock()
	replies := make(map[string]*catalogpb.HelloReply, len(c.peers))
	for node, h := range c.peers {
		if time.Since(h.at) <= staleAfter*c.cfg.Poll {
			replies[node] = h.reply
		}
	}
	return replies
}

// forgetPeers drops what was heard long ago.
func (c *Catalog) forgetPeers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, h := range c.peers {
		if time.Since(h.at) > staleAfter*c.cfg.Poll {
			delete(c.peers, node)
		}
	}
	for name, at := range c.seen {
		if time.Since(at) > time.Hour {
			delete(c.seen, name)
		}
	}
}

// A route is where the catalog is kept.
type route struct {
	leader  string // node, or ""
	servers []*catalogpb.Server
	term    uint64
}

// route is what this node knows of its catalog: by its own replica, or by the reply of the latest term.
func (c *Catalog) route() route {
	catalog := c.identity().Catalog
	if catalog == "" {
		return route{}
	}
	best := route{}
	if r := c.current(); r != nil {
		best = r.route()
	}
	for _, reply := range c.fresh() {
		if reply.GetCatalog() != catalog || reply.GetTerm() < best.term || len(reply.GetServers()) == 0 {
			continue
		}
		switch {
		case reply.GetReplica() && (reply.GetTerm() > best.term || best.leader == ""):
			best = route{reply.GetLeader(), reply.GetServers(), reply.GetTerm()}
		case len(best.servers) == 0:
			// Others only say what they heard: it tells whom to ask, and must not go round for ever.
			best.servers = reply.GetServers()
		}
	}
	return best
}

func (r *replica) route() route {
	leader, _ := r.leader()
	return route{leader, r.wireServers(), r.raft.CurrentTerm()}
}

// voters are the nodes to ask, the leader first.
func (rt route) voters() []string {
	nodes := make([]string, 0, len(rt.servers))
	for _, s := range rt.servers {
		if s.GetVoter() {
			nodes = append(nodes, s.GetNode())
		}
	}
	slices.SortStableFunc(nodes, func(a, b string) int {
		return cmp.Compare(b2i(b == rt.leader), b2i(a == rt.leader))
	})
	return nodes
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
