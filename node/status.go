package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/transfer"
)

// operators is what the admin API sees of a node.
type operators struct{ n *Node }

// Node is this node's own status.
func (o operators) Node(context.Context) (adminapi.NodeStatus, error) {
	n := o.n
	self, view := n.gossip.Self(), n.directory.View()
	owned := 0
	for p := range view.Partitions() {
		if view.PartitionOwner(p) == n.id {
			owned++
		}
	}
	usage, moved := n.store.Usage(), n.engine.Stats()
	s := adminapi.NodeStatus{
		ID: n.id, BootID: n.boot, Farm: n.cfg.Farm, Version: n.cfg.Version, Zone: n.cfg.Zone,
		State: string(self.State), Started: n.started, UptimeSeconds: int64(time.Since(n.started).Seconds()),
		Trust: n.trustMode(), TrustPart: n.trustPart(),
		Addresses: adminapi.Addresses{
			Registry: n.RegistryAddresses(), Peer: self.PeerAddr, Gossip: self.GossipAddr, Admin: n.cfg.AdminListen,
		},
		Ring: adminapi.Ring{
			Hash: fmt.Sprintf("%016x", view.Hash()), Epoch: view.Epoch(), Partitions: view.Partitions(), OwnedPartitions: owned,
		},
		Store: adminapi.Store{
			Blobs: usage.Blobs - usage.Hosted, Bytes: usage.Bytes - usage.HostedBytes, PartialBytes: usage.PartialBytes, MaxBytes: usage.MaxBytes,
			FreeBytes: usage.FreeBytes, Alarm: usage.Alarm,
		},
		Served: adminapi.Served{
			Disk: n.metrics.source(transfer.FromDisk), Peer: n.metrics.source(transfer.FromPeer), Upstream: n.metrics.source(transfer.FromUpstream),
		},
		Upstream: n.upstreamStatus(),
		Peers: adminapi.Peers{
			BytesSent: moved.SentBytes, BytesReceived: moved.ReceivedBytes, PiecesSent: moved.PiecesSent,
			PiecesReceived: moved.PiecesReceived, Duplicates: moved.Duplicates, Mismatches: moved.Mismatches,
		},
		Swarms:            adminapi.Swarms{Now: moved.Swarms, Fetching: moved.Fetching},
		RingDisagreements: n.gossip.Disagreements(),
		Catalog:           n.catalogPart(),
		Hosted:            n.hostedPart(),
	}
	if usage.Alarm != "" {
		s.Alarms = append(s.Alarms, usage.Alarm)
	}
	s.Alarms = append(s.Alarms, n.trustAlarms()...)
	if id := n.catalog.ID(); id != "" {
		if err := n.belonging.check(id); err != nil {
			s.Alarms = append(s.Alarms, err.Error()+": see p2pctl catalog recover and restore")
		}
	}
	return s, nil
}

func (m *metrics) source(s transfer.Source) adminapi.Source {
	return adminapi.Source{Bytes: m.bytes[s].Load(), Requests: m.requests[s].Load()}
}

func (n *Node) upstreamStatus() adminapi.Upstream {
	u := adminapi.Upstream{Upstreams: make(map[string]adminapi.UpstreamLink)}
	for name, c := range n.upstreams.clients {
		s := c.Stats()
		link := adminapi.UpstreamLink{
			BytesReceived: s.Bytes, Requests: s.Requests.Total(), RateLimit: -1, RateRemaining: -1, OpenBreaker: s.Open,
		}
		if !s.RateLimit.At.IsZero() {
			link.RateLimit, link.RateRemaining = s.RateLimit.Limit, s.RateLimit.Remaining
		}
		u.Upstreams[name] = link
		u.BytesReceived += s.Bytes
		u.Requests += link.Requests
	}
	return u
}

// Members are all members of the farm.
func (o operators) Members(context.Context) ([]adminapi.Member, error) {
	var out []adminapi.Member
	for _, m := range o.n.gossip.Members() {
		out = append(out, adminapi.Member{
			ID: m.ID, BootID: m.BootID, Zone: m.Zone, State: string(m.State), Version: m.Version,
			Addresses: adminapi.Addresses{Peer: m.PeerAddr, Gossip: m.GossipAddr},
		})
	}
	return out, nil
}

// Ask gets a member's own status.
func (o operators) Ask(ctx context.Context, id string) (adminapi.NodeStatus, error) {
	n := o.n
	if id == n.id {
		return o.Node(ctx)
	}
	m, ok := n.gossip.Member(id)
	if !ok || !m.Alive() {
		return adminapi.NodeStatus{}, fmt.Errorf("is %s", cmp.Or(m.State, gossip.Gone))
	}
	raw, err := n.engine.StatusOf(ctx, nodeOf(m))
	if err != nil {
		return adminapi.NodeStatus{}, whySilent(ctx, m.PeerAddr, err)
	}
	var s adminapi.NodeStatus
	if err := json.Unmarshal(raw, &s); err != nil {
		return adminapi.NodeStatus{}, fmt.Errorf("status of %s: %w", id, err)
	}
	return s, nil
}

// whySilent says in a few words why a peer gave no status. What gRPC says of a connection that fails is for those who
// write programs, and only as text; so the connection is tried once more.
func whySilent(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	said := status.Convert(err)
	if said.Code() != codes.Unavailable {
		return errors.New(said.Message())
	}
	conn, dialled := new(net.Dialer).DialContext(ctx, "tcp", address)
	if dialled == nil {
		_ = conn.Close()
		return errors.New("something listens there, but no node answers")
	}
	if errno, ok := errors.AsType[syscall.Errno](dialled); ok {
		return errno
	}
	return dialled
}

// statusJSON is this node's status for peers that show the whole farm.
func (n *Node) statusJSON(ctx context.Context) ([]byte, error) {
	s, err := operators{n}.Node(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// errStarting says that the node does not serve yet.
var errStarting = errors.New("node is starting")

// Ready tells whether the node serves.
func (o operators) Ready() error {
	select {
	case <-o.n.placed:
		return nil
	default:
		return errStarting
	}
}

// Transfer is what this node has moved since its start.
func (n *Node) Transfer() transfer.Stats { return n.engine.Stats() }
