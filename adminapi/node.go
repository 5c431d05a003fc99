package adminapi

import "time"

// SchemaVersion is the version of the JSON documents. It rises when a field changes its meaning or goes away, not when
// one is added.
const SchemaVersion = 1

// NodeStatus is one node's own view of itself. Counters run since the node's start.
type NodeStatus struct {
	ID            string    `json:"id"`
	BootID        string    `json:"boot_id"` // another one after every start
	Farm          string    `json:"farm"`
	Version       string    `json:"version"`
	Zone          string    `json:"zone"`
	State         string    `json:"state"` // joining, active or draining
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Addresses     Addresses `json:"addresses"`
	Trust         string    `json:"trust"` // mode; TrustNone is pointed out as a warning

	Ring     Ring     `json:"ring"`
	Store    Store    `json:"store"`
	Served   Served   `json:"served"`
	Upstream Upstream `json:"upstream"`
	Peers    Peers    `json:"peers"`
	Swarms   Swarms   `json:"swarms"`

	TrustPart *TrustPart   `json:"trust_part,omitempty"` // nil of a node without trust
	Catalog   *CatalogPart `json:"catalog,omitempty"`    // nil of a node that keeps to none
	Hosted    *HostedPart  `json:"hosted,omitempty"`

	// RingDisagreements names peers whose ring has differed from this node's for long.
	RingDisagreements []string `json:"ring_disagreements"`
	// Alarms say what works worse than it should, beside what Store.Alarm says.
	Alarms []string `json:"alarms"`
}

// The trust modes.
const (
	TrustNone     = "none"     // members do not prove who they are
	TrustLoopback = "loopback" // nothing was said, and so nobody beyond this machine reaches the node
)

// Addresses are where a node listens, as host:port, or a path for a unix socket. "" is nowhere, or not known to who
// answers.
type Addresses struct {
	Registry []string `json:"registry"`
	Peer     string   `json:"peer"`
	Gossip   string   `json:"gossip"`
	Admin    string   `json:"admin"`
}

// Ring is the ring as a node sees it. Nodes that see the same members have the same hash.
type Ring struct {
	Hash            string `json:"hash"`  // 16 hex digits
	Epoch           uint64 `json:"epoch"` // how often this node's view has changed; each node counts for itself
	Partitions      int    `json:"partitions"`
	OwnedPartitions int    `json:"owned_partitions"`
}

// Store is what the blob store holds of upstreams' content; HostedPart has the rest.
type Store struct {
	Blobs        int    `json:"blobs"`         // whole ones
	Bytes        int64  `json:"bytes"`         // of whole blobs
	PartialBytes int64  `json:"partial_bytes"` // of blobs on their way
	MaxBytes     int64  `json:"max_bytes"`     // the budget; 0: none
	FreeBytes    int64  `json:"free_bytes"`    // of the file system; -1: not known
	Alarm        string `json:"alarm"`         // why blobs stream through without being kept; "": they are kept
}

// A Source counts what one source gave to clients.
type Source struct {
	Bytes    int64 `json:"bytes"`
	Requests int64 `json:"requests"`
}

// Served is what clients were given, by where the bytes came from.
type Served struct {
	Disk     Source `json:"disk"`
	Peer     Source `json:"peer"`
	Upstream Source `json:"upstream"`
	// HitRatio is the share of the bytes that did not come from the upstream, 0 when there were none. This package
	// works it out; what a Farm puts here is ignored.
	HitRatio float64 `json:"hit_ratio"`
}

// Bytes is the sum over the sources.
func (s Served) Bytes() int64 { return s.Disk.Bytes + s.Peer.Bytes + s.Upstream.Bytes }

func (s Served) hitRatio() float64 {
	all := s.Bytes()
	if all <= 0 {
		return 0
	}
	return float64(s.Disk.Bytes+s.Peer.Bytes) / float64(all)
}

// Upstream is what was received from all upstreams, and from each by its name.
type Upstream struct {
	BytesReceived int64                   `json:"bytes_received"`
	Requests      int64                   `json:"requests"`
	Upstreams     map[string]UpstreamLink `json:"upstreams"`
}

// UpstreamLink is how a node stands with one upstream.
type UpstreamLink struct {
	BytesReceived int64 `json:"bytes_received"`
	Requests      int64 `json:"requests"`
	RateLimit     int64 `json:"rate_limit"`     // pulls allowed, as the upstream last said; -1: it did not
	RateRemaining int64 `json:"rate_remaining"` // pulls left of these; -1: not known
	OpenBreaker   bool  `json:"open_breaker"`   // it is not asked for the moment, since it failed too often
}

// Peers is what was exchanged with other nodes.
type Peers struct {
	BytesSent      int64 `json:"bytes_sent"`
	BytesReceived  int64 `json:"bytes_received"`
	PiecesSent     int64 `json:"pieces_sent"`
	PiecesReceived int64 `json:"pieces_received"`
	Duplicates     int64 `json:"duplicates"` // pieces that arrived twice
	Mismatches     int64 `json:"mismatches"` // pieces that did not match their list
}

// Swarms counts the swarms that a node takes part in.
type Swarms struct {
	Now      int `json:"now"`
	Fetching int `json:"fetching"` // of these, blobs that are not whole here
}

// finished is n as it is shown: with its ratio, and with empty lists instead of none.
func (n NodeStatus) finished() NodeStatus {
	n.Served.HitRatio = n.Served.hitRatio()
	n.Addresses = n.Addresses.finished()
	n.RingDisagreements = list(n.RingDisagreements)
	n.Alarms = list(n.Alarms)
	if n.TrustPart != nil {
		part := n.TrustPart.finished()
		n.TrustPart = &part
	}
	if n.Upstream.Upstreams == nil {
		n.Upstream.Upstreams = map[string]UpstreamLink{}
	}
	return n
}

func (a Addresses) finished() Addresses {
	a.Registry = list(a.Registry)
	return a
}

// list is texts, never nil, which JSON would show as null.
func list(texts []string) []string { return append([]string{}, texts...) }
