package node

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/trust"
	"github.com/pullonce/pullonce/upstream"
)

// Config is everything that one node works by.
type Config struct {
	DataDir string
	Farm    string // the farm's name
	Zone    string
	Version string

	Registry registryapi.Config // what its clients see; Listen says where
	// OptionalListen are addresses of the registry door that may fail to open, such as [::1] on a host without IPv6.
	OptionalListen []string
	PeerListen     string // address of the peer door
	PeerAdvertise  string // "ip:port" that peers reach it at
	Gossip         gossip.Config
	AdminListen    string // loopback HTTP of the admin API; "" is none
	AdminSocket    string // unix socket of the admin API; "" is none
	Trust          Trust
	Door           Door

	Partitions int // of the ring; the same on every node of a farm for ever
	Store      blobstore.Config
	Transfer   transfer.Config
	Upstreams  map[string]Upstream // by name
	Hosted     Hosted
	Catalog    catalog.Config // the node fills in where it is and who the node is
	// UpstreamRate limits what is read from all upstreams together, in bytes a second; 0 is no limit.
	UpstreamRate int64
	Egress       Egress
	// MirrorAuthBearer asks clients on /v2/ for a token of the default upstream's token service, which AuthRealm (a URL)
	// and AuthService name.
	MirrorAuthBearer       bool
	AuthRealm, AuthService string
	Prefetch               bool // fetch a manifest's other layers when the first is asked for

	// StopGrace is how long responses that are on their way may take to end when the node stops.
	StopGrace time.Duration
}

// Hosted says how the farm keeps what is pushed to it.
type Hosted struct {
	Prefix            string // first element of hosted names; "" hosts none
	Copies, MinCopies int    // nodes that keep each blob, and those that must have it before a push is answered
	RepairRate        int64  // bytes a second of copies that were lost; 0 is no limit
	CompareEvery      time.Duration
	GCEvery           time.Duration // 0 is never
	Grace             time.Duration // how long a blob is kept that no manifest needs
}

// An Upstream is one registry outside the farm, and how its tags are remembered.
type Upstream struct {
	Client upstream.Config
	TagTTL time.Duration // how long a tag's digest is taken for true without asking
	// Connections is how many ranges of one blob are read at once when one connection does not fill the link; 0 is
	// Config.Transfer.UpstreamConnections.
	Connections int
	// Shared are the repositories that the farm may give to all its clients although the upstream would not.
	Shared []access.Pattern
	// AuthTTL is how long it is remembered that the upstream lets a client read a repository, AuthStale how much longer
	// that holds while the upstream cannot be asked.
	AuthTTL, AuthStale time.Duration
}

// The defaults of Upstream.AuthTTL and AuthStale.
const (
	DefaultAuthTTL   = 5 * time.Minute
	DefaultAuthStale = time.Hour
)

// An Egress says whether a node can reach the upstreams.
type Egress string

// The values of Egress.
const (
	EgressYes  Egress = "yes"
	EgressNo   Egress = "no"
	EgressAuto Egress = "auto" // find out
)

// Default is a lone node that mirrors Docker Hub, with its data in dir.
func Default(dir string) Config {
	hub := upstream.Default()
	registry := registryapi.Default()
	registry.Listen = []string{"127.0.0.1:5000", "[::1]:5000"}
	g := gossip.Default()
	g.Listen = "127.0.0.1:7946"
	return Config{
		DataDir: dir, Farm: "pullonce", Version: "dev",
		Registry: registry, OptionalListen: []string{"[::1]:5000"},
		PeerListen: "127.0.0.1:7947", PeerAdvertise: "127.0.0.1:7947", Gossip: g,
		AdminListen: "127.0.0.1:5080", Trust: Trust{Mode: trust.None},
		Partitions: 16384, Store: blobstore.Default(dir), Transfer: transfer.Default(),
		Upstreams: map[string]Upstream{oci.DockerHub: {Client: hub, TagTTL: time.Minute, AuthTTL: DefaultAuthTTL, AuthStale: DefaultAuthStale}},
		Catalog:   catalog.Default(),
		Hosted: Hosted{
			Prefix: "farm.internal", Copies: 3, MinCopies: 2, RepairRate: 64 << 20,
			CompareEvery: time.Minute, GCEvery: 24 * time.Hour, Grace: time.Hour,
		},
		Egress: EgressAuto, Prefetch: true, StopGrace: 20 * time.Second,
	}
}

// Validate reports everything that is wrong with c at once. What the rooms check of their own parts is checked when
// they are put together.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("node: no data directory"))
	}
	if len(c.Registry.Listen) == 0 {
		errs = append(errs, errors.New("node: no address for the registry door"))
	}
	if c.Partitions < 1 {
		errs = append(errs, fmt.Errorf("node: %d partitions", c.Partitions))
	}
	for name, a := range map[string]string{"peer": c.PeerListen, "peer advertise": c.PeerAdvertise} {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("node: %s address %q: %w", name, a, err))
		}
	}
	if _, ok := c.Upstreams[c.Registry.Names.Default]; !ok {
		errs = append(errs, fmt.Errorf("node: default upstream %q is not among the upstreams", c.Registry.Names.Default))
	}
	return errors.Join(append(errs, c.Hosted.validate(c.Upstreams), c.Door.validate(c.Trust.Mode, c.Registry.TLS))...)
}

func (h Hosted) validate(upstreams map[string]Upstream) error {
	var errs []error
	if _, ok := upstreams[h.Prefix]; ok {
		errs = append(errs, fmt.Errorf("node: hosted prefix %q is an upstream", h.Prefix))
	}
	if h.MinCopies < 1 || h.Copies < h.MinCopies {
		errs = append(errs, fmt.Errorf("node: %d copies of what is hosted, at least %d", h.Copies, h.MinCopies))
	}
	if h.RepairRate < 0 || h.CompareEvery <= 0 || h.GCEvery < 0 || h.Grace < 0 {
		errs = append(errs, fmt.Errorf("node: repair rate %d, compare every %v, collect every %v, grace %v: out of bounds",
			h.RepairRate, h.CompareEvery, h.GCEvery, h.Grace))
	}
	return errors.Join(errs...)
}
