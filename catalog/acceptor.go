package catalog

import (
	"cmp"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// A ballot orders proposals.
type ballot struct {
	Round uint64 `json:"round"`
	Node  string `json:"node"`
}

func (b ballot) compare(other ballot) int {
	return cmp.Or(cmp.Compare(b.Round, other.Round), cmp.Compare(b.Node, other.Node))
}

// A value is what the seeds decide once: the farm's catalog and the replica that founds it.
type value struct {
	Catalog string `json:"catalog"`
	Node    string `json:"node"`
	Raft    string `json:"raft"`
}

// prepare is the acceptor's answer to a proposer's first question: from now on nothing below b is accepted. The
// identity has to be saved before the answer goes out when changed is true.
func (id *identity) prepare(b ballot) (promised, changed bool) {
	if b.compare(id.Promised) < 0 {
		return false, false
	}
	changed = b != id.Promised
	id.Promised = b
	return true, changed
}

// accept is its answer to the second one. An acceptor that accepts takes the catalog for existing: whatever majority
// did so, one of every other majority knows.
func (id *identity) accept(b ballot, v value) bool {
	if b.compare(id.Promised) < 0 {
		return false
	}
	id.Promised, id.AcceptedBallot, id.Accepted = b, b, v
	return true
}

func (b ballot) message() *catalogpb.Ballot {
	return &catalogpb.Ballot{Round: b.Round, Node: b.Node}
}

func readBallot(p *catalogpb.Ballot) ballot {
	return ballot{Round: p.GetRound(), Node: p.GetNode()}
}

func (v value) message() *catalogpb.Value {
	if v == (value{}) {
		return nil
	}
	return &catalogpb.Value{Catalog: v.Catalog, Node: v.Node, Raft: v.Raft}
}

func readValue(p *catalogpb.Value) value {
	return value{Catalog: p.GetCatalog(), Node: p.GetNode(), Raft: p.GetRaft()}
}
