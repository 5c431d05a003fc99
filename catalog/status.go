package catalog

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// A State is what a node is to the catalog, in words for a person.
type State string

// What a node can be. While seeds are missing it is "waiting for seeds (n of m)".
const (
	SeedListsDiffer   State = "seed lists differ"
	WaitingForCatalog State = "waiting for a catalog"
	Voter             State = "voter"
	NonVoter          State = "non-voter"
	Refused           State = "refused: hosted content in another catalog"
	NoQuorum          State = "no quorum"
	// CatalogLost: hosted content is here, and nobody who can be reached keeps the catalog that names it.
	CatalogLost State = "catalog lost"
)

func waitingForSeeds(held, total int) State {
	return State(fmt.Sprintf("waiting for seeds (%d of %d)", held, total))
}

// show sets what status says while there is no replica.
func (c *Catalog) show(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// A Status is the catalog as this node sees it.
type Status struct {
	State   State
	Catalog string // "" while none is known
	Leader  string // node, or ""
	Voters  []VoterStatus
	// Commit is the index of the last command that a majority has; Applied is how far this node's replica is.
	Commit, Applied, Term uint64
	// Tolerance is how many more voters may fail before there is no quorum.
	Tolerance int
	// Trouble says what a person should look into, or is "".
	Trouble string
}

// A VoterStatus is one of the voters.
type VoterStatus struct {
	Node, Replica, Zone string
	Leader, Alive       bool
	// Trails is by how many commands it trails the leader, as it said last; -1 when it said nothing of late.
	Trails int64
}

// Status is what the node is and what it knows of the voters. It does not wait.
func (c *Catalog) Status() Status {
	c.mu.Lock()
	id, r, state, refusing, skip := c.id, c.replica, c.state, c.refusing, c.skipTo
	c.mu.Unlock()
	rt := c.route()
	s := Status{State: state, Catalog: id.Catalog, Leader: rt.leader, Term: rt.term}
	if r != nil {
		s.State, s.Commit, s.Applied = r.state(), r.raft.CommitIndex(), r.machine.view().Index()
		if err := r.machine.health(); err != nil {
			s.Trouble = err.Error()
		}
	}
	if refusing {
		s.State, s.Trouble = Refused, ErrRefused.Error()
	}
	if s.Trouble == "" && time.Now().Before(skip) {
		s.Trouble = "leases are skipped"
	}
	c.statusVoters(&s, rt, r)
	return s
}

func (c *Catalog) statusVoters(s *Status, rt route, r *replica) {
	replies := c.fresh()
	alive := 0
	if reply := replies[rt.leader]; reply != nil && reply.GetCatalog() == s.Catalog {
		s.Commit = max(s.Commit, reply.GetCommit())
	}
	for _, server := range rt.servers {
		if !server.GetVoter() {
			continue
		}
		m, _ := c.parts.Farm.Lookup(server.GetNode())
		v := VoterStatus{Node: server.GetNode(), Replica: server.GetRaft(), Zone: m.Zone, Leader: server.GetNode() == rt.leader, Trails: -1}
		reply := replies[v.Node]
		switch {
		case v.Node == c.cfg.Node && r != nil && r.name == v.Replica:
			v.Alive, v.Trails = true, int64(s.Commit)-int64(r.raft.AppliedIndex())
		case reply != nil && reply.GetRaft() == v.Replica && reply.GetReplica():
			v.Alive, v.Trails = true, max(0, int64(s.Commit)-int64(reply.GetApplied()))
		case r == nil && m.ID != "" && m.Gone.IsZero() && v.Node != c.cfg.Node:
			v.Alive = true // a client asks the leader alone
		}
		if v.Alive {
			alive++
		}
		s.Voters = append(s.Voters, v)
	}
	s.Tolerance = max(0, alive-(len(s.Voters)/2+1))
}

// state is what a replica makes its node.
func (r *replica) state() State {
	leader, _ := r.leader()
	if leader == "" {
		if len(r.servers()) == 0 {
			return WaitingForCatalog
		}
		return NoQuorum
	}
	for _, s := range r.servers() {
		if s.ID == raft.ServerID(r.name) && s.Suffrage == raft.Voter {
			return Voter
		}
	}
	return NonVoter
}
