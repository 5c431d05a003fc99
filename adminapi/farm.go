package adminapi

import (
	"context"
	"time"
)

// A Farm is what the door asks of the node behind it. Its methods may be called at once, and return soon after ctx is
// done.
type Farm interface {
	// Node is this node's own view.
	Node(ctx context.Context) (NodeStatus, error)
	// Members lists the members that this node knows, itself among them.
	Members(ctx context.Context) ([]Member, error)
	// Ask asks another member for its own view.
	Ask(ctx context.Context, memberID string) (NodeStatus, error)
	// Ready is nil when the node can serve a pull, and says otherwise why not.
	Ready() error
}

// The states of members that are not there: both are listed for a while.
const (
	StateGone = "gone" // it vanished or was stopped
	StateLeft = "left" // it drained and went, and nobody expects an answer
)

// A Member is one node of the farm as gossip knows it, without asking it.
type Member struct {
	ID        string    `json:"id"`
	BootID    string    `json:"boot_id"`
	Zone      string    `json:"zone"`
	State     string    `json:"state"` // joining, active, draining, gone or left
	Version   string    `json:"version"`
	Addresses Addresses `json:"addresses"`
}

// FarmStatus is the farm as seen from one node, with what each member said of itself.
type FarmStatus struct {
	SchemaVersion int       `json:"schema_version"`
	Farm          string    `json:"farm"`
	AskedAt       time.Time `json:"asked_at"`
	Self          string    `json:"self"` // id of the node that asked
	// Degraded says that an operator should look: there is a warning of a kind that says so.
	Degraded bool       `json:"degraded"`
	Ring     FarmRing   `json:"ring"`
	Totals   Totals     `json:"totals"`
	Trust    *FarmTrust `json:"trust,omitempty"` // of the members that answered, nil when none of them says
	// Catalog and Hosted are of the members that answered, nil when none of them says. A blob that is kept in three
	// copies counts three times.
	Catalog  *FarmCatalog   `json:"catalog,omitempty"`
	Hosted   *HostedPart    `json:"hosted,omitempty"`
	Members  []MemberStatus `json:"members"` // ordered by id
	Warnings []Warning      `json:"warnings"`
}

// FarmRing compares the members' rings.
type FarmRing struct {
	Hash  string `json:"hash"`  // of the ring that most of the members that answered have
	Agree bool   `json:"agree"` // all of them have that
}

// A MemberStatus is a member and its answer.
type MemberStatus struct {
	Member
	Answered bool        `json:"answered"`
	Millis   int64       `json:"millis"` // until it answered, or was given up
	Error    string      `json:"error"`  // why there is no answer
	Node     *NodeStatus `json:"node"`   // nil when it did not answer
}

// Totals are sums over the members that answered.
type Totals struct {
	Members       int    `json:"members"`  // all that are listed
	Answered      int    `json:"answered"` // those of them that the sums are of
	Blobs         int    `json:"blobs"`    // a blob that two members hold counts twice
	Bytes         int64  `json:"bytes"`
	PartialBytes  int64  `json:"partial_bytes"`
	MaxBytes      int64  `json:"max_bytes"`
	Served        Served `json:"served"`
	UpstreamBytes int64  `json:"upstream_bytes"` // received from upstreams
	UpstreamCalls int64  `json:"upstream_requests"`
	// SavedBytes is what clients were given less what came from upstreams: below 0 when more was fetched than was asked
	// for.
	SavedBytes int64  `json:"saved_bytes"`
	Peers      Peers  `json:"peers"`
	Swarms     Swarms `json:"swarms"` // a swarm of three members counts three times
}

// Sum adds up what the members that answered said.
func Sum(members []MemberStatus) Totals {
	t := Totals{Members: len(members)}
	for _, m := range members {
		if m.Node != nil {
			t.add(m.Node)
		}
	}
	t.Served.HitRatio = t.Served.hitRatio()
	t.SavedBytes = t.Served.Bytes() - t.UpstreamBytes
	return t
}

func (t *Totals) add(n *NodeStatus) {
	t.Answered++
	t.Blobs += n.Store.Blobs
	t.Bytes += n.Store.Bytes
	t.PartialBytes += n.Store.PartialBytes
	t.MaxBytes += n.Store.MaxBytes
	t.Served.Disk.add(n.Served.Disk)
	t.Served.Peer.add(n.Served.Peer)
	t.Served.Upstream.add(n.Served.Upstream)
	t.UpstreamBytes += n.Upstream.BytesReceived
	t.UpstreamCalls += n.Upstream.Requests
	t.Peers.add(n.Peers)
	t.Swarms.Now += n.Swarms.Now
	t.Swarms.Fetching += n.Swarms.Fetching
}

func (s *Source) add(o Source) {
	s.Bytes += o.Bytes
	s.Requests += o.Requests
}

func (p *Peers) add(o Peers) {
	p.BytesSent += o.BytesSent
	p.BytesReceived += o.BytesReceived
	p.PiecesSent += o.PiecesSent
	p.PiecesReceived += o.PiecesReceived
	p.Duplicates += o.Duplicates
	p.Mismatches += o.Mismatches
}

// MemberList is the answer about members alone, of whom none was asked.
type MemberList struct {
	SchemaVersion int      `json:"schema_version"`
	Farm          string   `json:"farm"`
	Self          string   `json:"self"`
	Members       []Member `json:"members"` // ordered by id
}

// Version is which release a program is.
type Version struct {
	SchemaVersion int    `json:"schema_version"`
	Version       string `json:"version"`
	Protocol      int    `json:"protocol"` // of peers
	Go            string `json:"go"`
}

// Self is a node's own view with the version of the document.
type Self struct {
	SchemaVersion int `json:"schema_version"`
	NodeStatus
}
