package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	gossippb "github.com/pullonce/pullonce/proto/gossip"
)

// State is what a member does, or what has become of it.
type State string

// A member that is alive says itself which of the first three it is.
const (
	// Joining: it has no place in the ring yet.
	Joining State = "joining"
	// Active: it has its place in the ring.
	Active State = "active"
	// Draining: it gives up its place.
	Draining State = "draining"
	// Gone: it vanished or was stopped, and keeps its place for HoldDown.
	Gone State = "gone"
	// Left: it drained and went. It is shown for HoldDown.
	Left State = "left"
)

// Member is one node as gossip sees it.
type Member struct {
	// ID is the node's name for as long as its data directory lives.
	ID string
	// BootID is another one after every start of the node.
	BootID string
	// Zone is where the node stands, "" when it was not told.
	Zone string
	// Version is the release that it runs.
	Version string
	// PeerAddr is the address for peers, "ip:port"; PeerAddr6 is a second one, over
	// IPv6, or "".
	PeerAddr, PeerAddr6 string
	// GossipAddr is the address for gossip, "ip:port".
	GossipAddr string
	State      State
	// Since is when this node first saw this life of the member, the one with its BootID. Gone is when it saw it go, zero
	// while the member is there.
	Since, Gone time.Time
	// Egress says that the node can reach the upstreams.
	Egress bool
	// ProtoMin and ProtoMax bound the versions of the peer protocol that it speaks.
	ProtoMin, ProtoMax uint32
	// Epoch counts the changes of the farm's trust that the member knows of.
	Epoch uint64
	// RingHash is the hash of its ring as this node last heard of it, 0 for never.
	RingHash uint64
}

// Alive says that the member is there: neither Gone nor Left.
func (m Member) Alive() bool {
	return m.State == Joining || m.State == Active || m.State == Draining
}

// Bounds on what a member says of itself. Together they keep its metadata below
// the 512 bytes that gossip carries.
const (
	maxMetaBytes = 512
	maxIDBytes   = 64
	maxTextBytes = 64 // farm, boot id, zone and version, each
	maxPadding   = 32
)

// encodeMeta returns what a member tells all others about itself, with so much
// padding.
func encodeMeta(m Member, farm string, padding int) ([]byte, error) {
	if err := checkTexts(m.ID, farm, m.BootID, m.Zone, m.Version); err != nil {
		return nil, err
	}
	state, ok := stateToWire[m.State]
	if !ok {
		return nil, fmt.Errorf("a member cannot say that it is %q", m.State)
	}
	meta := &gossippb.Meta{
		Farm: farm, BootId: m.BootID, Zone: m.Zone, Version: m.Version, State: state,
		Egress: m.Egress, ProtocolMin: m.ProtoMin, ProtocolMax: m.ProtoMax, Epoch: m.Epoch,
		Padding: make([]byte, padding),
	}
	for _, address := range []string{m.PeerAddr, m.PeerAddr6} {
		if err := setPeerAddr(meta, address); err != nil {
			return nil, err
		}
	}
	raw, err := proto.Marshal(meta)
	if err == nil && len(raw) > maxMetaBytes {
		err = fmt.Errorf("metadata of %d bytes; at most %d fit", len(raw), maxMetaBytes)
	}
	return raw, err
}

func checkTexts(id string, texts ...string) error {
	if id == "" || len(id) > maxIDBytes || !utf8.ValidString(id) {
		return fmt.Errorf("node id %.80q: want 1 to %d bytes of text", id, maxIDBytes)
	}
	for _, text := range texts {
		if len(text) > maxTextBytes || !utf8.ValidString(text) {
			return fmt.Errorf("%.80q: want at most %d bytes of text", text, maxTextBytes)
		}
	}
	return nil
}

func setPeerAddr(meta *gossippb.Meta, address string) error {
	if address == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("peer address %q: want ip:port", address)
	}
	ip, port := a.Addr().Unmap(), uint32(a.Port())
	switch {
	case ip.Is4() && meta.PeerIpv4 == nil:
		meta.PeerIpv4, meta.PeerIpv4Port = ip.AsSlice(), port
	case ip.Is6() && ip.Zone() == "" && meta.PeerIpv6 == nil:
		meta.PeerIpv6, meta.PeerIpv6Port = ip.AsSlice(), port
	default:
		return fmt.Errorf("peer address %q: want one IPv4 and one IPv6 address at most, without zones", address)
	}
	return nil
}

// decodeMeta reads what another node said of itself, and the farm it belongs to.
func decodeMeta(id, gossipAddr string, raw []byte) (Member, string, error) {
	if len(raw) > maxMetaBytes {
		return Member{}, "", fmt.Errorf("metadata of %d bytes", len(raw))
	}
	var meta gossippb.Meta
	if err := proto.Unmarshal(raw, &meta); err != nil {
		return Member{}, "", errors.New("metadata that is not Pullonce's")
	}
	if err := checkTexts(id, meta.Farm, meta.BootId, meta.Zone, meta.Version); err != nil {
		return Member{}, "", err
	}
	m := Member{
		ID: id, BootID: meta.BootId, Zone: meta.Zone, Version: meta.Version, GossipAddr: gossipAddr,
		// A state of a later release is one that this one cannot count on.
		State: Joining, Egress: meta.Egress, ProtoMin: meta.ProtocolMin, ProtoMax: meta.ProtocolMax, Epoch: meta.Epoch,
	}
	if state, ok := stateFromWire[meta.State]; ok {
		m.State = state
	}
	four, err4 := peerAddr(meta.PeerIpv4, meta.PeerIpv4Port, 4)
	six, err6 := peerAddr(meta.PeerIpv6, meta.PeerIpv6Port, 16)
	if err := errors.Join(err4, err6); err != nil {
		return Member{}, "", err
	}
	m.PeerAddr, m.PeerAddr6 = four, six
	if four == "" {
		m.PeerAddr, m.PeerAddr6 = six, ""
	}
	return m, meta.Farm, nil
}

func peerAddr(raw []byte, port uint32, size int) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok || len(raw) != size || ip.Is4In6() || port > 0xffff {
		return "", fmt.Errorf("peer address of %d bytes, port %d", len(raw), port)
	}
	return netip.AddrPortFrom(ip, uint16(port)).String(), nil
}

var stateToWire = map[State]gossippb.State{
	Joining:  gossippb.State_STATE_JOINING,
	Active:   gossippb.State_STATE_ACTIVE,
	Draining: gossippb.State_STATE_DRAINING,
}

var stateFromWire = map[gossippb.State]State{
	gossippb.State_STATE_JOINING:  Joining,
	gossippb.State_STATE_ACTIVE:   Active,
	gossippb.State_STATE_DRAINING: Draining,
}
