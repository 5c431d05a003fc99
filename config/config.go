// Package config turns a file, the environment and flags into one checked
// configuration.
//
// All three speak of the same keys, listed by [Keys]: a key of the file is a
// variable in the environment and, where it is a common one, a flag. Flags go
// before the environment, that before the file, and that before the defaults.
// Everything is checked before anything is used, and all that is wrong is reported
// at once, each problem with the place that it comes from ([Error]).
//
// What the values do is for the packages that they are handed to; nothing below
// this one reads the environment. A Config is a plain value.
package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/pullonce/pullonce/access"
)

// Config is a whole, checked configuration. The fields are the keys of the file;
// Keys says what each means, its unit and its default.
type Config struct {
	Farm    string
	DataDir string
	Zone    string

	Registry Registry
	Peer     Peer
	Gossip   Gossip
	Admin    Admin
	// Join is the list of seeds, "host:port".
	Join   []string
	Trust  Trust
	Cache  Cache
	Limits Limits
	Hosted Hosted
	// RingPartitions is the same on all nodes for a farm's life.
	RingPartitions   int
	DefaultUpstream  string
	Egress           string // yes, no or auto
	UpstreamFallback string // direct or never
	Prefetch         bool
	MirrorAuth       string // off or bearer
	// Upstreams has DefaultUpstream among others, by name.
	Upstreams map[string]Upstream
	Log       Log
}

// Registry is the door for container engines.
type Registry struct {
	// Listen has at least one "ip:port".
	Listen []string
	// ListenDefaulted says that nobody has set Listen: then it is 127.0.0.1:5000 and
	// [::1]:5000, and that the second one cannot be had, as on a host without IPv6,
	// is no error.
	ListenDefaulted bool
	// Hosts are names, besides localhost and the addresses listened on, under which clients may ask.
	Hosts            []string
	FirstByteTimeout time.Duration
	StallTimeout     time.Duration
	ShutdownGrace    time.Duration
	TLS              TLS
	UsersFile        string              // htpasswd, "" for none
	Token            access.TokenService // the zero one for none
	Rights           access.Rights       // of users and tokens
}

// TLS is what encrypts the registry beyond loopback.
type TLS struct {
	// Mode is off, files or farm; "" when no address is beyond loopback and nobody has said one.
	Mode              string
	CertFile, KeyFile string // both set in mode files alone
}

// Peer is the door for other nodes.
type Peer struct {
	Listen    string // "ip:port"
	Advertise string // "ip:port", never an unspecified address
}

// Gossip is where members are exchanged.
type Gossip struct {
	Listen    string // "ip:port"
	Advertise string // "ip:port", never an unspecified address
	HoldDown  time.Duration
}

// Trust is how members of the farm know each other.
type Trust struct {
	Mode string // auto, files or none
	// Token, or the file that holds it, lets a node without a certificate join, in mode auto.
	Token, TokenFile string
	// CAFile, CertFile, KeyFile and GossipKeyFile are all set in mode files.
	CAFile, CertFile, KeyFile, GossipKeyFile string
}

// Admin is the door for people and programs that watch the node.
type Admin struct {
	Listen string // "ip:port", "" for none
	Socket string // path of a unix socket, "" for none
	// TokenFile has what lets changes be made over HTTP; "" for nothing.
	TokenFile string
}

// Cache is what the node may keep on disk.
type Cache struct {
	MaxSize, MinFree Size
	ScrubInterval    time.Duration
}

// Limits are in bytes a second, 0 for no limit, and bytes for Memory.
type Limits struct {
	Upload, Download, Upstream int64
	Memory                     int64
}

// Hosted is what the farm keeps of its own.
type Hosted struct {
	Prefix string // first element of the names that can be pushed; has a dot, and is no upstream's name; "" for none
	// Copies is how many nodes keep each blob, MinCopies how many must have it before a push is answered while fewer
	// are up. MinCopies is at most Copies.
	Copies, MinCopies int
	MaxSize, MinFree  Size  // of what is kept, 0 for no limit; of the disk, left to others
	MaxUpload         int64 // bytes of the largest blob that can be pushed, 0 for no limit
	MaxUploads        int
	UploadExpiry      time.Duration
	SlowestUpload     int64 // bytes a minute, 0 for no floor
	RepairRate        int64 // bytes a second, 0 for no limit
	CompareInterval   time.Duration
	GCInterval        time.Duration // 0 for never
	GCGrace           time.Duration
}

// Upstream is one registry outside the farm.
type Upstream struct {
	URL           string
	TagTTL        time.Duration
	Proxy         string
	NoProxy       []string
	CAFile        string
	Username      string
	PasswordFile  string
	Credentials   []Credential // goes before Username
	Shared        []access.Pattern
	AuthTTL       time.Duration
	AuthStale     time.Duration
	AuthRealm     string // URL of the token service, "" as the upstream says
	AuthService   string
	MaxConcurrent int
	Rate          int64 // bytes a second, 0 for no limit
	Connections   int
}

// Log is what the node writes about itself.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json
}

// Size is a number of bytes or a part of the disk. One of the two is 0.
type Size struct {
	Bytes   int64
	Percent float64
}

// Of returns the number of bytes on a disk of that many.
func (s Size) Of(disk int64) int64 {
	if s.Percent == 0 {
		return s.Bytes
	}
	return int64(math.Floor(float64(disk) / 100 * s.Percent))
}

// String returns the size as it can be written in a configuration.
func (s Size) String() string {
	if s.Percent != 0 {
		return strconv.FormatFloat(s.Percent, 'g', -1, 64) + "%"
	}
	return formatBytes(s.Bytes)
}

// formatBytes returns the shortest exact spelling.
func formatBytes(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return strconv.FormatInt(n, 10)
}
