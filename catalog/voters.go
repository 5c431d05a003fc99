package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// stewardship is what a leader remembers of the replicas from one look to the next. It belongs to one goroutine.
type stewardship struct {
	replica *replica
	heard   map[string]time.Time // replica name -> when it was there last
	came    map[string]time.Time // replica name -> when it was added
	shun    map[string]time.Time // node -> until when it is no candidate
	tidied  time.Time            // what is over was looked for
	aged    time.Time            // tombstones were looked at
	apart   time.Time            // since when a replica goes by another configuration, or zero
}

const (
	catchUp  = 15 * time.Second // that a new replica has to get near
	nearly   = 64               // commands that a voter may still lack when it gets its vote
	shunTime = 5 * time.Second
)

// steward looks after the voters while this node leads, and after the meeting with another catalog.
func (c *Catalog) steward(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Poll / 2)
	defer tick.Stop()
	var s *stewardship
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r := c.current()
		if r == nil || !r.leads() {
			s = nil
			continue
		}
		if s == nil || s.replica != r {
			s = &stewardship{
				replica: r, heard: map[string]time.Time{}, came: map[string]time.Time{}, shun: map[string]time.Time{}, aged: time.Now(),
			}
		}
		if err := c.tend(ctx, s); err != nil && ctx.Err() == nil {
			c.log.LogAttrs(ctx, slog.LevelWarn, "voters not changed", slog.Any("error", err))
		}
	}
}

// tend makes at most one move.
func (c *Catalog) tend(ctx context.Context, s *stewardship) error {
	gone, err := c.meet(ctx, s.replica)
	if gone || err != nil {
		return err
	}
	if err := c.tidy(ctx, s); err != nil {
		return err
	}
	servers, members := c.standings(s), 0
	for _, m := range c.parts.Farm.Members() {
		if !m.Leaving && (m.Gone.IsZero() || time.Since(m.Gone) < c.cfg.VoterGone) {
			members++
		}
	}
	m := plan(servers, c.candidates(s, servers), members, func(m candidate) bool {
		return time.Since(m.since) >= c.cfg.Settled
	})
	if m.kind == stay {
		return c.remind(ctx, s)
	}
	return c.carryOut(ctx, s, m)
}

// remindAfter is how long a replica may go by another configuration than the leader's before it is told anew.
const remindAfter = 10 * time.Second

// remind appends the configuration anew, unchanged, when a replica that keeps up goes by another one for long. Raft 1.8
// goes back to the last configuration that it knows to be committed when it cuts off the end of its log, and then does
// not look at an entry that it has before the cut.
func (c *Catalog) remind(ctx context.Context, s *stewardship) error {
	r, replies := s.replica, c.fresh()
	mine := configurationOf(r.wireServers())
	apart := false
	for _, server := range r.servers() {
		name, node := readPlace(server.Address)
		reply := replies[node]
		apart = apart || reply.GetReplica() && reply.GetRaft() == name && configurationOf(reply.GetServers()) != mine
	}
	now := time.Now()
	switch {
	case !apart:
		s.apart = time.Time{}
		return nil
	case s.apart.IsZero():
		s.apart = now
		return nil
	case now.Sub(s.apart) < remindAfter:
		return nil
	}
	s.apart = time.Time{}
	err, waited := r.await(ctx, r.raft.AddVoter(raft.ServerID(r.name), place(r.name, c.cfg.Node), 0, c.cfg.RPC))
	if !waited {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("append the configuration anew: %w", err)
	}
	return nil
}

// configurationOf is a configuration as text, whatever its order.
func configurationOf(servers []*catalogpb.Server) string {
	lines := make([]string, 0, len(servers))
	for _, s := range servers {
		lines = append(lines, fmt.Sprintf("%s@%s %t", s.GetRaft(), s.GetNode(), s.GetVoter()))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// standings is the configuration with what is known of each replica.
func (c *Catalog) standings(s *stewardship) []standing {
	now := time.Now()
	replies := c.fresh()
	commit := s.replica.raft.CommitIndex()
	var all []standing
	for _, server := range s.replica.servers() {
		name, node := readPlace(server.Address)
		m, known := c.parts.Farm.Lookup(node)
		st := standing{
			name: name, node: node, zone: m.Zone, voter: server.Suffrage == raft.Voter, self: name == s.replica.name,
			leaving: m.Leaving, since: m.Since,
		}
		if s.heard[name].IsZero() {
			s.heard[name] = c.seenLast(name, now)
		}
		if s.came[name].IsZero() {
			s.came[name] = now
		}
		reply := replies[node]
		if st.self || reply.GetReplica() && reply.GetRaft() == name {
			s.heard[name] = now
			st.near = st.self || reply.GetApplied()+nearly >= commit && reply.GetApplied() > 0
		}
		st.silent = s.heard[name] != now
		st.gone = now.Sub(s.heard[name]) >= c.cfg.VoterGone || !known ||
			!m.Gone.IsZero() && now.Sub(m.Gone) >= c.cfg.VoterGone
		if reply != nil && reply.GetRaft() != "" && reply.GetRaft() != name {
			st.gone, st.silent = true, true // the node is there without the replica's memory
		}
		st.gone = st.gone && !st.self
		st.late = now.Sub(s.came[name]) >= catchUp
		all = append(all, st)
	}
	return all
}

// seenLast is when a replica answered this node last, as long as it was no leader yet; or just now.
func (c *Catalog) seenLast(name string, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.seen[name]; ok {
		return at
	}
	return now.Add(-time.Nanosecond)
}

// candidates are the members that could keep a replica.
func (c *Catalog) candidates(s *stewardship, servers []standing) []candidate {
	taken := map[string]bool{}
	for _, st := range servers {
		if !st.gone {
			taken[st.node] = true
		}
	}
	replies := c.fresh()
	var all []candidate
	for _, m := range c.alive() {
		if reply := replies[m.ID]; reply.GetReplica() && reply.GetCatalog() != s.replica.catalog {
			continue
		}
		if !taken[m.ID] && !m.Leaving && time.Now().After(s.shun[m.ID]) {
			all = append(all, candidate{m.ID, m.Zone, m.Since})
		}
	}
	return all
}

func (c *Catalog) carryOut(ctx context.Context, s *stewardship, m move) error {
	if m.kind == stay {
		return nil
	}
	r := s.replica
	var future raft.Future
	switch m.kind {
	case add:
		name, err := c.enlistAt(ctx, r, m.node)
		if err != nil {
			s.shun[m.node] = time.Now().Add(shunTime)
			return fmt.Errorf("add %s: %w", m.node, err)
		}
		m.name = name
		future = r.raft.AddNonvoter(raft.ServerID(name), place(name, m.node), 0, c.cfg.RPC)
	case promote:
		future = r.raft.AddVoter(raft.ServerID(m.name), place(m.name, m.node), 0, c.cfg.RPC)
	case remove:
		future = r.raft.RemoveServer(raft.ServerID(m.name), 0, c.cfg.RPC)
	case handOver:
		future = r.raft.LeadershipTransfer()
	}
	err, waited := r.await(ctx, future)
	if !waited {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", m.kind, m.node, err)
	}
	delete(s.heard, m.name)
	if m.kind == add {
		delete(s.came, m.name)
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "voters changed", slog.String("change", m.kind.String()), slog.String("node", m.node))
	if m.kind == remove {
		c.dismiss(ctx, r.catalog, m)
	}
	return nil
}

func (k moveKind) String() string {
	return [...]string{"stay", "add", "promote", "remove", "hand over"}[k]
}

// enlistAt has a member start a replica.
func (c *Catalog) enlistAt(ctx context.Context, r *replica, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RPC)
	defer cancel()
	client, err := c.client(node)
	if err != nil {
		return "", err
	}
	reply, err := client.Join(ctx, &catalogpb.JoinRequest{Catalog: r.catalog, Leader: c.cfg.Node})
	if err != nil {
		return "", err
	}
	if reply.GetRefusal() != "" || reply.GetRaft() == "" {
		return "", fmt.Errorf("refused: %.200s", reply.GetRefusal())
	}
	return reply.GetRaft(), nil
}

// dismiss tells a replica that it is none any more. One that does not hear it finds out by itself.
func (c *Catalog) dismiss(ctx context.Context, catalog string, m move) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
	defer cancel()
	if client, err := c.client(m.node); err == nil {
		_, _ = client.Retire(ctx, &catalogpb.RetireRequest{Catalog: catalog, Raft: m.name})
	}
}

// stepReplica gives the replica up when the leader does not count it any more: it was away while it was replaced.
func (c *Catalog) stepReplica() error {
	r := c.current()
	if r == nil {
		return nil
	}
	if other := c.replaced(r); other != nil {
		if err := c.leaveBehind(r.ctx, r); err != nil {
			return err
		}
		return c.retire(other.GetCatalog())
	}
	if r.leads() {
		return nil
	}
	silent := max(catchUp, 2*c.cfg.VoterGone)
	if time.Since(r.born) < silent || time.Since(r.raft.LastContact()) < silent {
		return nil
	}
	for node, reply := range c.fresh() {
		if reply.GetCatalog() != r.catalog || !reply.GetReplica() || reply.GetLeader() != node || reply.GetTerm() < r.raft.CurrentTerm() {
			continue
		}
		for _, s := range reply.GetServers() {
			if s.GetRaft() == r.name {
				return nil
			}
		}
		c.log.LogAttrs(r.ctx, slog.LevelInfo, "replica given up", slog.String("leader", node))
		return c.retire(r.catalog)
	}
	return nil
}
