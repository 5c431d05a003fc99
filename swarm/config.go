package swarm

import (
	"errors"
	"fmt"
	"time"
)

// MaxNeighbours is how many peers a Fetcher can know at once.
const MaxNeighbours = 64

// A Config holds what a node decides about one swarm.
type Config struct {
	// Pieces is the number of pieces of the blob; it has no default.
	Pieces int
	// Outstanding is how many pieces are on their way to this node at once, pushes
	// included, default 8. Requests that are overdue do not count, but together
	// with them there are never more than twice as many.
	Outstanding int
	// WantedOutstanding is how many of these may be pieces that were chosen because
	// the local client waits for them, default 2: every host's client reads from the
	// start, and a swarm whose nodes all ask in order has nothing to exchange.
	WantedOutstanding int
	// HaveEvery is how long a piece may wait before the neighbours hear of it, default
	// 5 ms. What few neighbours have is told at once.
	HaveEvery time.Duration
	// BusyRetry is when a peer that said busy is asked again if it did not say when,
	// default 2 ms; it grows with repeated refusals.
	BusyRetry time.Duration
	// StallAfter is how long a request may go without a byte before its piece is asked
	// of another peer and the peer is asked last, default 2 s.
	StallAfter time.Duration
	// Patience is how long a node that finds nothing to ask of anyone waits before it
	// turns to a peer that is still seeding, default 1 s: on a slow link a piece that was
	// pushed to another takes that long to come round, and a source that gives it to all who
	// grow impatient fills its link with copies.
	Patience time.Duration
	// FewPeers is the number of neighbours below which a node asks for more, default 24:
	// where uploads are scarce, who has fewer neighbours than the others gets less.
	FewPeers int
}

// Default is the configuration for a blob of that many pieces.
func Default(pieces int) Config {
	return Config{
		Pieces: pieces, Outstanding: 8, WantedOutstanding: 2, HaveEvery: 5 * time.Millisecond,
		BusyRetry: 2 * time.Millisecond, StallAfter: 2 * time.Second,
		Patience: time.Second, FewPeers: 24,
	}
}

// Validate names every value that cannot work.
func (c Config) Validate() error {
	var bad []error
	positive := func(name string, v int64) {
		if v <= 0 {
			bad = append(bad, fmt.Errorf("%s is %d, must be positive", name, v))
		}
	}
	positive("Pieces", int64(c.Pieces))
	positive("Outstanding", int64(c.Outstanding))
	positive("WantedOutstanding", int64(c.WantedOutstanding))
	positive("HaveEvery", int64(c.HaveEvery))
	positive("BusyRetry", int64(c.BusyRetry))
	positive("StallAfter", int64(c.StallAfter))
	positive("Patience", int64(c.Patience))
	if c.FewPeers < 0 {
		bad = append(bad, fmt.Errorf("FewPeers is %d, must not be negative", c.FewPeers))
	}
	return errors.Join(bad...)
}
