package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// Config says who this node is to the catalog and how patient it is.
type Config struct {
	// Dir holds the log, the snapshots and who this replica is. It belongs to the catalog alone.
	Dir string
	// Node is the member's ID, Boot its boot ID.
	Node, Boot string
	// Former is the catalog that names the hosted content of this node, as it was kept outside of Dir; "" for none. A node
	// whose Dir is empty founds no catalog then: it waits for that one, or for a person to rebuild it.
	Former string
	// Seeds is the seed list as it was configured. Empty: the node founds a catalog of one at once.
	Seeds []string

	// Heartbeat is how long a voter waits for its leader before it stands for election, Lease how long a leader goes
	// on without hearing from a majority. Defaults 1 s and 500 ms; Lease is at most Heartbeat.
	Heartbeat, Lease time.Duration
	// RPC bounds one exchange of raft, Ask one question to a peer. Defaults 2 s and 700 ms.
	RPC, Ask time.Duration
	// Patience bounds a write and a read, forwarding and waiting for a leader included. Default 1.8 s: what has no
	// quorum is answered within 2 s.
	Patience time.Duration
	// Poll is how often peers are asked what they are. Default 1 s.
	Poll time.Duration
	// Turn is how much later than the seed before it a seed proposes to found a catalog. Default 2 s.
	Turn time.Duration
	// Alone is how long the only seed of its own list looks out for a catalog that others may have kept before it
	// founds one. Default 35 s, which is longer than gossip takes to try a lost member again.
	Alone time.Duration
	// VoterGone is how long a voter may be silent before another takes its place. Default 6.5 s, so that the other has
	// its vote within 10 s.
	VoterGone time.Duration
	// Settled is how long a member has to be there before zones are balanced for its sake. Default 1 min.
	Settled time.Duration
	// LeaseWait bounds taking the lease of a blob, LeaseSkip is how long leases are skipped after that ran out.
	// Defaults 200 ms and 30 s. LeaseTTL is how long a lease holds. Default 30 s.
	LeaseWait, LeaseSkip, LeaseTTL time.Duration
	// Tombstones is how long deletions are remembered for recovery. Default 30 days.
	Tombstones time.Duration
	// SnapshotEvery and SnapshotAfter are how often, and after how many commands, the log is cut. Defaults 30 s and
	// 8,192; Trailing is how many commands stay in it for voters that lag. Default 10,240.
	SnapshotEvery           time.Duration
	SnapshotAfter, Trailing uint64
	// NoSync leaves out every sync to disk. For tests: what was answered may be lost in a power cut.
	NoSync bool

	// BeforeSync is called before the sync that stores entries. For tests and measurements: a slow disk. Default nil.
	BeforeSync func()

	journalBytes int64 // of the log; 0 is the log's own default
}

// Default returns a Config that lacks Dir, Node, Boot and Seeds.
func Default() Config {
	return Config{
		Heartbeat: time.Second, Lease: 500 * time.Millisecond,
		RPC: 2 * time.Second, Ask: 700 * time.Millisecond, Patience: 1800 * time.Millisecond,
		Poll: time.Second, Turn: 2 * time.Second, Alone: 35 * time.Second,
		VoterGone: 6500 * time.Millisecond, Settled: time.Minute,
		LeaseWait: 200 * time.Millisecond, LeaseSkip: 30 * time.Second, LeaseTTL: 30 * time.Second,
		Tombstones:    30 * 24 * time.Hour,
		SnapshotEvery: 30 * time.Second, SnapshotAfter: 8192, Trailing: 10240,
	}
}

// Validate reports all that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	for name, text := range map[string]string{"directory": c.Dir, "node": c.Node, "boot": c.Boot} {
		if text == "" {
			errs = append(errs, fmt.Errorf("catalog %s is not set", name))
		}
	}
	for name, d := range map[string]time.Duration{
		"heartbeat": c.Heartbeat, "lease": c.Lease, "rpc": c.RPC, "ask": c.Ask, "patience": c.Patience, "poll": c.Poll,
		"turn": c.Turn, "alone": c.Alone, "voter gone": c.VoterGone, "settled": c.Settled, "lease wait": c.LeaseWait,
		"lease skip": c.LeaseSkip, "lease ttl": c.LeaseTTL, "tombstones": c.Tombstones, "snapshot every": c.SnapshotEvery,
	} {
		if d < 5*time.Millisecond {
			errs = append(errs, fmt.Errorf("catalog %s %v: want 5ms or more", name, d))
		}
	}
	if c.Lease > c.Heartbeat {
		errs = append(errs, fmt.Errorf("catalog lease %v: want at most the heartbeat %v", c.Lease, c.Heartbeat))
	}
	if len(c.Seeds) > maxSeeds {
		errs = append(errs, fmt.Errorf("seed list of %d: want at most %d", len(c.Seeds), maxSeeds))
	}
	return errors.Join(errs...)
}

// maxSeeds bounds a seed list, which goes over the wire.
const maxSeeds = 256

// canonical is a seed list as nodes compare it: in lower case, sorted, each entry once.
func canonical(seeds []string) []string {
	list := make([]string, 0, len(seeds))
	for _, s := range seeds {
		list = append(list, strings.ToLower(strings.TrimSpace(s)))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// hashOf names a canonical seed list.
func hashOf(seeds []string) string {
	sum := sha256.Sum256([]byte(strings.Join(seeds, "\n")))
	return hex.EncodeToString(sum[:16])
}

// Parts are what a Catalog needs of the node that it is part of.
type Parts struct {
	Farm Farm
	// Streams gives the raft streams that arrived at the peer port. Closing it ends them.
	Streams net.Listener
	// Dial opens a raft stream to the peer at an address.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Conn is the connection for calls to the peer at an address. It dials when it is used and is kept by the caller.
	Conn func(address string) (grpc.ClientConnInterface, error)
}

// Farm tells who is there. It is asked often and must not block.
type Farm interface {
	// Members are all that are known, this node and those that are gone among them.
	Members() []Member
	// Lookup finds one of them.
	Lookup(id string) (Member, bool)
}

// A Member is a node as gossip sees it.
type Member struct {
	ID, Boot, Address, Zone string
	// Since is when it came, Gone when it went; Gone is zero while it is there.
	Since, Gone time.Time
	// Leaving says that it hands over what it has.
	Leaving bool
	// Seats are the entries of this node's seed list that lead to the member.
	Seats []string
}
