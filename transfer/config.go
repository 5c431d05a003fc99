package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Node names another node, or this one, to the room.
type Node struct {
	ID      string
	Boot    string // changes with every start
	Address string // host:port of its peer door
	Zone    string
}

// Config is what an Engine works by.
type Config struct {
	Self Node

	Outstanding int   // pieces that this node asks for at once in one swarm; 8
	UploadSlots int   // pieces that this node sends at once in one swarm; 8
	Budget      int64 // bytes of pieces in flight towards this node, over all swarms; 64 MiB
	InlineMax   int64 // bytes of the largest blob that travels inside the answer to Register; 256 KiB

	Upload   int64 // bytes a second to peers; 0 is no limit
	Download int64 // bytes a second from peers; 0 is no limit

	Silence      time.Duration // a meeting point whose connection brings nothing for so long is probed; 600 ms
	ProbeTimeout time.Duration // how long a node that seems lost is asked directly; 1 s, a refusal counts at once
	LostFor      time.Duration // how long a node that was found lost is passed over; 10 s
	AskTimeout   time.Duration // how long the members are asked who holds a blob; 1 s, and all answer at once as a rule
	PieceTimeout time.Duration // a piece whose connection brings no byte for so long is asked elsewhere; 2 s
	Linger       time.Duration // how long a fetch that nobody waits for goes on; 20 s

	// UpstreamFallback lets a node that cannot reach the owner's answer go to the upstream itself.
	UpstreamFallback bool
	// UpstreamConnections is how many ranges of one blob the owner reads at once when one connection does not fill the
	// link; 4.
	UpstreamConnections int

	// Dial opens a connection to a peer door; nil is TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// blockLimit bounds the reading of one block ahead of order, however many wait for it.
const blockLimit = 30 * time.Second

// openLimit bounds how long a block waits for the upstream to begin with the whole blob: there must be time left to read
// it for itself.
const openLimit = blockLimit / 3

// Default is the configuration of DESIGN's measurements; Self is still to be filled in.
func Default() Config {
	return Config{
		Outstanding: 8, UploadSlots: 8, Budget: 64 << 20, InlineMax: 256 << 10,
		Silence: 600 * time.Millisecond, ProbeTimeout: time.Second, LostFor: 10 * time.Second,
		AskTimeout: time.Second, PieceTimeout: 2 * time.Second, Linger: 20 * time.Second,
		UpstreamFallback: true, UpstreamConnections: 4,
	}
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if c.Self.ID == "" || c.Self.Address == "" {
		errs = append(errs, errors.New("transfer: this node has no id or address"))
	}
	for name, n := range map[string]int64{
		"Outstanding": int64(c.Outstanding), "UploadSlots": int64(c.UploadSlots), "Budget": c.Budget,
		"InlineMax": c.InlineMax, "UpstreamConnections": int64(c.UpstreamConnections),
		"Silence": int64(c.Silence), "ProbeTimeout": int64(c.ProbeTimeout), "AskTimeout": int64(c.AskTimeout),
		"PieceTimeout": int64(c.PieceTimeout), "Linger": int64(c.Linger), "LostFor": int64(c.LostFor),
	} {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("transfer: %s is %d; it must be positive", name, n))
		}
	}
	return errors.Join(errs...)
}
