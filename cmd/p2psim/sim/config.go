package sim

import (
	"errors"
	"fmt"
	"time"
)

// A Kind says what goes wrong with a host.
type Kind string

// What can go wrong with a host.
const (
	Kill Kind = "kill" // the process dies: its connections are reset
	Cut  Kind = "cut"  // the host vanishes without a word
	Lie  Kind = "lie"  // from then on every piece that it serves is wrong
)

// A Fault happens to one host when the owner has read that share of the blob.
type Fault struct {
	Kind  Kind
	Owner bool // the owner; otherwise a random other host
	At    float64
}

// A Config describes a farm and a pull. Rates are bytes per second.
type Config struct {
	Hosts        int
	Size         int64
	Piece        int64
	HostRate     float64
	UpstreamRate float64
	RTT          time.Duration
	MessageCost  time.Duration
	Cores        int // that handle messages, per host
	Loss         float64
	RTO          time.Duration
	Zones        int
	Rolling      time.Duration // between the starts of two hosts
	Warm         bool          // the owner has the blob when the first host starts
	InOrder      bool          // every host has a client that reads the blob from the start
	Takeover     time.Duration // from an owner's loss to its successor's first step
	Faults       []Fault
	Seed         uint64
	Outstanding  int
	Slots        int
	Neighbours   int
}

// Default is 8 hosts on links of 10 Gbit/s pulling 1 GiB.
func Default() Config {
	return Config{
		Hosts: 8, Size: 1 << 30, Piece: 1 << 20, HostRate: 1.25e9, UpstreamRate: 1.25e9,
		RTT: 300 * time.Microsecond, MessageCost: 20 * time.Microsecond, Cores: 4,
		Loss: 0.001, RTO: 200 * time.Millisecond, Zones: 1, InOrder: true,
		Takeover: 200 * time.Millisecond, Seed: 1, Outstanding: 8, Slots: 8, Neighbours: 12,
	}
}

// Validate names every value that cannot work.
func (c Config) Validate() error {
	var bad []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf(format, args...))
		}
	}
	need(c.Hosts >= 1, "hosts is %d, must be at least 1", c.Hosts)
	need(c.Size > 0, "size is %d, must be positive", c.Size)
	need(c.Piece >= quanta, "piece is %d, must be at least %d", c.Piece, quanta)
	need(c.HostRate > 0 && c.UpstreamRate > 0, "rates are %g and %g, must be positive", c.HostRate, c.UpstreamRate)
	need(c.RTT > 0, "rtt is %s, must be positive", c.RTT)
	need(c.MessageCost >= 0, "message cost is %s, must not be negative", c.MessageCost)
	need(c.Cores >= 1, "cores is %d, must be at least 1", c.Cores)
	need(c.Loss >= 0 && c.Loss < 0.5, "loss is %g, must be from 0 to 0.5", c.Loss)
	need(c.Zones >= 1 && c.Zones <= c.Hosts, "zones is %d, must be from 1 to the number of hosts", c.Zones)
	need(c.Outstanding > 0 && c.Slots > 0 && c.Neighbours > 0, "outstanding, slots and neighbours must be positive")
	for _, f := range c.Faults {
		need(f.Kind == Kill || f.Kind == Cut || f.Kind == Lie, "fault %q is not kill, cut or lie", f.Kind)
		need(f.At >= 0 && f.At <= 1, "a fault at %g, must be from 0 to 1", f.At)
		need(c.Hosts > 1, "a fault needs more than one host")
	}
	return errors.Join(bad...)
}
