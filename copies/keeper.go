package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// ErrTooFew says that fewer nodes than must took a copy.
var ErrTooFew = errors.New("too few nodes took a copy")

// A Node is a member of the farm as the ring and gossip see it.
type Node struct {
	ID, Address, Zone string
	Up                bool
}

// A Farm says which nodes there are and where a blob belongs. It answers at once, from memory, and may be asked by many
// at once.
type Farm interface {
	// Places are the n members where d belongs, best first, spread over zones: with up those of the members that are up
	// now, else those that the ring names, of which some may be down for the moment.
	Places(d oci.Digest, n int, up bool) []Node
	// Ring names the present ring, by which Places goes, and tells how many members it has.
	Ring() (hash uint64, members int)
	// Others are the members that are up, but this node.
	Others() []Node
	// Partition is the slot of the ring to which d belongs.
	Partition(d oci.Digest) int
}

// A Catalog is what the farm's catalog says of hosted content.
type Catalog interface {
	// Named tells for each of at most 1,000 digests whether any repository has it, as of now. With an error nothing is
	// known.
	Named(ctx context.Context, digests []oci.Digest) ([]bool, error)
	// Notes are the present notes of those digests that are manifests; they may be a little old.
	Notes(ctx context.Context, digests []oci.Digest) (map[oci.Digest][]byte, error)
	// Merge is the note that says what two notes of one digest say.
	Merge(old, note []byte) []byte
}

// Parts are what a Keeper works with.
type Parts struct {
	Store   *blobstore.Store
	Farm    Farm
	Catalog Catalog
	// Conn is the connection to a node's peer door, whose gRPC server and clients use bulk's codec.
	Conn func(address string) (grpc.ClientConnInterface, error)
	// Stored hears of a copy that has come from a peer. It must not block. It may be nil.
	Stored func(oci.Digest)
	// Removed hears of a blob that was collected. It must not block. It may be nil.
	Removed func(oci.Digest)
}

// A Keeper keeps hosted blobs in copies. Register makes it answer peers, Run does the work in the background.
type Keeper struct {
	cfg   Config
	parts Parts
	log   *slog.Logger

	holds    *touched  // what was used when
	incoming *incoming // what peers send here now
	puts     *puts     // what is pushed now
	follows  *follows  // uploads that are sent along
	buffers  *bufferPool
	back     background
	count    counters
}

type counters struct {
	copied, copiedBytes     atomic.Int64 // that peers took in pushes
	received, receivedBytes atomic.Int64
	refused                 atomic.Int64 // incoming blobs that were not kept
	failed                  atomic.Int64 // targets of pushes that were given up
}

// New makes a keeper of the copies in parts.Store. It starts nothing.
func New(cfg Config, parts Parts, log *slog.Logger) (*Keeper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if parts.Store == nil || parts.Farm == nil || parts.Catalog == nil || parts.Conn == nil {
		return nil, errors.New("copies: a part is missing")
	}
	cfg = cfg.filled()
	k := &Keeper{
		cfg: cfg, parts: parts, log: log,
		holds: newTouched(cfg.Grace), incoming: newIncoming(cfg.Incoming), puts: newPuts(), follows: newFollows(max(1, cfg.Incoming/2)),
		buffers: &bufferPool{},
	}
	k.startBackground()
	return k, nil
}

// Run does the work in the background until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.follows.close()
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range k.loops() {
		g.Go(func() error { return loop(ctx) })
	}
	g.Go(func() error {
		<-ctx.Done()
		return ctx.Err()
	})
	return g.Wait()
}

// Stats are figures of a Keeper. Totals count from the start of the node.
type Stats struct {
	Hosted        int   // hosted blobs here
	HostedBytes   int64 // and their bytes
	BelowCopies   int   // blobs, of which this node is the first place that is up, that are on too few nodes as far as it knows
	Strays        int   // hosted blobs here that belong elsewhere: none are left when a node may go
	Repairing     int   // blobs that are sent in the background now
	Repaired      int64 // copies sent in the background
	RepairedBytes int64

	Incoming      int   // blobs that peers send here now
	Following     int   // uploads that are sent along, or were and wait for their Put
	Copied        int64 // copies sent in pushes
	CopiedBytes   int64
	Received      int64 // blobs that peers sent here, in pushes and in the background
	ReceivedBytes int64
	Refused       int64 // blobs that peers sent here and that were not kept
	Failed        int64 // nodes that were given up during a push
}

// Stats tells how the copies stand.
func (k *Keeper) Stats() Stats {
	s := Stats{
		Incoming: k.incoming.total(), Following: k.follows.total(),
		Copied: k.count.copied.Load(), CopiedBytes: k.count.copiedBytes.Load(),
		Received: k.count.received.Load(), ReceivedBytes: k.count.receivedBytes.Load(),
		Refused: k.count.refused.Load(), Failed: k.count.failed.Load(),
	}
	k.backgroundStats(&s)
	return s
}

// members is how many members the ring has, at least this one.
func (k *Keeper) members() int {
	_, n := k.parts.Farm.Ring()
	return max(1, n)
}

// least is how many nodes must have taken a blob.
func (k *Keeper) least() int { return min(k.cfg.MinCopies, k.cfg.Copies, k.members()) }

func wrap(doing string, d oci.Digest, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, d, err)
}
