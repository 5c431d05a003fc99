package trust

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Where what the farm agrees on about trust lies in the Ledger.
const (
	bookKey   = "trust/state"
	tokensKey = "trust/token/" // + the token's id
	nodesKey  = "trust/node/"  // + the node's id
)

// ErrChanged is what a Ledger says of a Swap when the entry is not the one that the caller has seen.
var ErrChanged = errors.New("the entry has changed")

// A Ledger is what the farm agrees on, whichever node asks. Its reads are linearizable. It may be shared by goroutines.
type Ledger interface {
	// Get is the value under key and the index of its last change; nil and 0 when there is none.
	Get(ctx context.Context, key string) (value []byte, index uint64, err error)
	// List are the entries whose keys begin with prefix.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Swap puts value under key, or takes the entry away when value is empty. It is ErrChanged, and nothing is done, when the
	// entry's index is not ifIndex; 0 stands for no entry. After any other error it may have been done.
	Swap(ctx context.Context, key string, value []byte, ifIndex uint64) (index uint64, err error)
}

// An Entry is one of a Ledger. Its value is not to be changed.
type Entry struct {
	Key   string
	Value []byte
	Index uint64
}

// A Farm tells who is there. It is asked often and must not block.
type Farm interface {
	// Voters are the voters of the catalog that have an address, this node included when it is one.
	Voters() []Peer
	// Members are those that are up now.
	Members() []Peer
	// IsVoter tells whether the node is a voter now.
	IsVoter(id string) bool
}

// A Peer is a node as gossip and the catalog see it.
type Peer struct {
	ID, Address string
	Epoch       uint64 // that it has told; 0 when that is not known
}

// Parts are what a Trust needs of the node that it is part of.
type Parts struct {
	Ledger Ledger
	Farm   Farm
	// Conn is the connection for calls to the peer door at an address. It dials when it is used and is kept by the caller.
	Conn func(address string) (grpc.ClientConnInterface, error)
	// Changed is called with each new state, one call at a time. Nil: nobody is told.
	Changed func(State)
	// Addresses are where gossip listens on the nodes that were ever known: seeds and remembered ones. Their join doors are
	// asked when no voter can be called. Nil: none.
	Addresses func() []string
}

// What an edit of an entry comes to.
type verdict int

const (
	leave verdict = iota // all stays as it is
	put
	remove
)

// change has edit work on the record under key until nobody was in between. edit gets an empty record and false when there
// is none; it may be called again, with what is there then.
func change[M interface {
	*T
	proto.Message
}, T any](ctx context.Context, l Ledger, key string, check func(M) error, edit func(m M, there bool) (verdict, error)) (M, error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		m, index, err := load(ctx, l, key, check)
		if err != nil {
			return nil, err
		}
		do, err := edit(m, index != 0)
		if err != nil || do == leave {
			return m, err
		}
		var value []byte
		if do == put {
			if value, err = proto.Marshal(m); err != nil {
				return nil, fmt.Errorf("encode %s: %w", key, err)
			}
		}
		_, err = l.Swap(ctx, key, value, index)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, ErrChanged) {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		if err := pauseFor(ctx, rand.N(pause)); err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
	}
}

// load reads the record under key; an empty one and 0 when there is none.
func load[M interface {
	*T
	proto.Message
}, T any](ctx context.Context, l Ledger, key string, check func(M) error) (M, uint64, error) {
	raw, index, err := l.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	if index == 0 {
		return new(T), 0, nil
	}
	m, err := parseRecord(raw, check)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	return m, index, nil
}

// parseRecord reads what the catalog or the disk gave.
func parseRecord[M interface {
	*T
	proto.Message
}, T any](raw []byte, check func(M) error) (M, error) {
	m := M(new(T))
	if err := proto.Unmarshal(raw, m); err != nil {
		return nil, errRecord // the text of the other error quotes what it has met
	}
	if err := check(m); err != nil {
		return nil, err
	}
	return m, nil
}

var errRecord = errors.New("no record of this kind")

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// checkTokenRecord holds a token's record to what it must have.
func checkTokenRecord(r *trustpb.TokenRecord) error {
	if len(r.GetProof()) != sha256.Size || r.GetUses() == 0 || r.GetUsed() > r.GetUses() ||
		r.GetLastNode() != "" && (len(r.GetLastKey()) != sha256.Size || checkName(r.GetLastNode()) != nil) {
		return errRecord
	}
	return nil
}

// checkNodeRecord holds a node's record to what it must have.
func checkNodeRecord(r *trustpb.NodeRecord) error {
	if len(r.GetKeySha256()) != sha256.Size {
		return errRecord
	}
	return nil
}
