package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is the port of seeds that are given without one.
const DefaultPort = 7946

// Config says who this node is and how it gossips.
type Config struct {
	// ID is the node's lasting name, at most 64 bytes. Two nodes must not share one:
	// where that is seen it is logged as an error.
	ID string
	// BootID is a new one for every start, at most 64 bytes.
	BootID string
	// Farm is the name of the farm; nodes of another one are refused. At most 64 bytes.
	Farm string
	// Zone, Version, PeerAddr, PeerAddr6, Egress, ProtoMin and ProtoMax are what the
	// node says of itself at first; see Member.
	Zone, Version       string
	PeerAddr, PeerAddr6 string
	Egress              bool
	ProtoMin, ProtoMax  uint32

	// Listen is the address for gossip, UDP and TCP, "ip:port". Default 0.0.0.0:7946.
	Listen string
	// Advertise is the "ip:port" that others reach it at; "" is Listen, which then
	// must name one address. Port 0 is the one that it listens on.
	Advertise string
	// Seeds are addresses of nodes to ask first, "host:port" or "host". This node may
	// be among them. None: it is a farm of one until others ask it.
	Seeds []string
	// Known are addresses of nodes that this one has met before. They are asked beside the seeds and are none: they fill
	// no seat.
	Known []string
	// HoldDown is how long a member that has gone keeps its place in the ring.
	// Default 10 minutes.
	HoldDown time.Duration
	// Keys encrypt all gossip with AES-256: 32 bytes each, at most 4. The first seals what
	// is sent, all of them open what is received, and what none of them opens is refused.
	// None: gossip is in the clear. SetKeys changes them.
	Keys [][]byte
	// Door takes the connections to the TCP port that begin with a TLS handshake, with
	// nothing of it read yet. It must not block; who takes a connection closes it. Nil:
	// they are closed.
	Door func(net.Conn)
	// Refuse says that a node is not to be a member. It is asked often and must not block
	// or call back; Recheck makes it hold for those who are members already. Nil: nobody
	// is refused.
	Refuse func(id string) bool
	// Timings default to LAN.
	Timings Timings
	// Transport carries the gossip instead of UDP and TCP on Listen when it is set.
	Transport memberlist.Transport
}

// Timings are how fast gossip goes.
type Timings struct {
	// ProbeInterval is how often one member is probed, ProbeTimeout how long an
	// answer may take, SuspicionMult how many times longer than a probe a silent
	// member may defend itself.
	ProbeInterval, ProbeTimeout time.Duration
	SuspicionMult               int
	// GossipInterval is how often news are passed on.
	GossipInterval time.Duration
	// ExchangeInterval is how often all is exchanged with one other member.
	ExchangeInterval time.Duration
	// StreamTimeout bounds connecting to, writing to and reading from one node.
	StreamTimeout time.Duration
	// RetryMin and RetryMax bound the wait between two rounds of asking the seeds
	// while none answers.
	RetryMin, RetryMax time.Duration
	// RejoinInterval is how often seeds that are no members, and members that are
	// gone, are tried again once the node has joined.
	RejoinInterval time.Duration
	// Settle is how long news must rest before Changed tells of them, SettleMax how
	// long it waits at most.
	Settle, SettleMax time.Duration
	// DisagreeAfter is how long another ring hash is nothing to talk about.
	DisagreeAfter time.Duration
	// GoodbyeTimeout bounds how long news of this node's end may take to go out.
	GoodbyeTimeout time.Duration
}

// LAN returns timings for a datacenter: a silent member is noticed in seconds.
func LAN() Timings {
	return Timings{
		ProbeInterval:    time.Second,
		ProbeTimeout:     500 * time.Millisecond,
		SuspicionMult:    4,
		GossipInterval:   200 * time.Millisecond,
		ExchangeInterval: 30 * time.Second,
		StreamTimeout:    5 * time.Second,
		RetryMin:         500 * time.Millisecond,
		RetryMax:         30 * time.Second,
		RejoinInterval:   30 * time.Second,
		Settle:           200 * time.Millisecond,
		SettleMax:        2 * time.Second,
		DisagreeAfter:    time.Minute,
		GoodbyeTimeout:   3 * time.Second,
	}
}

// Local returns timings for nodes on one machine, such as a test's: ten times LAN.
func Local() Timings {
	return Timings{
		ProbeInterval:    100 * time.Millisecond,
		ProbeTimeout:     50 * time.Millisecond,
		SuspicionMult:    3,
		GossipInterval:   20 * time.Millisecond,
		ExchangeInterval: 2 * time.Second,
		StreamTimeout:    time.Second,
		RetryMin:         50 * time.Millisecond,
		RetryMax:         time.Second,
		RejoinInterval:   time.Second,
		Settle:           20 * time.Millisecond,
		SettleMax:        200 * time.Millisecond,
		DisagreeAfter:    5 * time.Second,
		GoodbyeTimeout:   time.Second,
	}
}

// Default returns a Config that lacks only the node's ID, BootID and PeerAddr.
func Default() Config {
	return Config{
		Farm:     "pullonce",
		Egress:   true,
		ProtoMin: 1,
		ProtoMax: 1,
		Listen:   net.JoinHostPort("0.0.0.0", strconv.Itoa(DefaultPort)),
		HoldDown: 10 * time.Minute,
		Timings:  LAN(),
	}
}

// Validate reports all that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := encodeMeta(c.self(), c.Farm, maxPadding); err != nil {
		errs = append(errs, err)
	}
	if c.Transport == nil {
		if _, _, err := c.addresses(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, seed := range slices.Concat(c.Seeds, c.Known) {
		if _, _, err := splitSeed(seed); err != nil {
			errs = append(errs, err)
		}
	}
	if c.HoldDown <= 0 {
		bad("hold down %v: want more than 0", c.HoldDown)
	}
	if err := checkKeys(c.Keys); err != nil {
		bad("gossip: %w", err)
	}
	return errors.Join(append(errs, c.Timings.validate())...)
}

func (t Timings) validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"probe interval": t.ProbeInterval, "probe timeout": t.ProbeTimeout, "gossip interval": t.GossipInterval,
		"exchange interval": t.ExchangeInterval, "stream timeout": t.StreamTimeout, "shortest retry": t.RetryMin,
		"longest retry": t.RetryMax, "rejoin interval": t.RejoinInterval, "settle time": t.Settle,
		"longest settle time": t.SettleMax, "goodbye timeout": t.GoodbyeTimeout, "disagreement": t.DisagreeAfter,
	} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s %v: want more than 0", name, d))
		}
	}
	if t.SuspicionMult < 1 {
		errs = append(errs, fmt.Errorf("suspicion multiplier %d: want 1 or more", t.SuspicionMult))
	}
	return errors.Join(errs...)
}

// self is this node at its start.
func (c Config) self() Member {
	return Member{
		ID: c.ID, BootID: c.BootID, Zone: c.Zone, Version: c.Version,
		PeerAddr: c.PeerAddr, PeerAddr6: c.PeerAddr6, State: Joining,
		Egress: c.Egress, ProtoMin: c.ProtoMin, ProtoMax: c.ProtoMax,
	}
}

// addresses parses Listen and Advertise.
func (c Config) addresses() (listen, advertise netip.AddrPort, err error) {
	listen, err = netip.ParseAddrPort(c.Listen)
	if err != nil {
		return listen, advertise, fmt.Errorf("gossip listen address %q: want ip:port", c.Listen)
	}
	advertise = listen
	if c.Advertise != "" {
		advertise, err = netip.ParseAddrPort(c.Advertise)
		if err != nil {
			return listen, advertise, fmt.Errorf("gossip advertise address %q: want ip:port", c.Advertise)
		}
	}
	if advertise.Addr().IsUnspecified() {
		return listen, advertise, fmt.Errorf("gossip advertise address %s: want one address that others can reach", advertise)
	}
	return listen, advertise, nil
}
