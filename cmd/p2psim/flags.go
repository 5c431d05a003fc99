package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

// options is what the command line asked for.
type options struct {
	cfg        sim.Config
	output     string
	runs       int
	cpuProfile string
	help       bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{cfg: sim.Default()}
	fs := flag.NewFlagSet("p2psim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	c := &o.cfg
	fs.IntVar(&c.Hosts, "hosts", c.Hosts, "hosts that pull, the owner included")
	bytesVar(fs, &c.Size, "size", "bytes of the blob, as 1GiB or 256MiB")
	bytesVar(fs, &c.Piece, "piece", "bytes of a piece")
	rateVar(fs, &c.HostRate, "host-rate", "rate of each host's uplink and of its downlink, as 10gbit or 200mbit")
	rateVar(fs, &c.UpstreamRate, "upstream-rate", "rate at which the upstream sends")
	fs.DurationVar(&c.RTT, "rtt", c.RTT, "round trip between any two hosts, and to the upstream")
	fs.DurationVar(&c.MessageCost, "message-cost", c.MessageCost, "time that a message takes on a core of its receiver")
	fs.IntVar(&c.Cores, "cores", c.Cores, "cores of a host that handle messages")
	fs.Float64Var(&c.Loss, "loss", c.Loss, "share of messages that are lost and sent again")
	fs.DurationVar(&c.RTO, "rto", c.RTO, "when a lost message is sent again if nothing follows it")
	fs.IntVar(&c.Zones, "zones", c.Zones, "zones that the hosts are spread over")
	fs.DurationVar(&c.Rolling, "rolling", c.Rolling, "time between the starts of two hosts")
	fs.BoolVar(&c.Warm, "warm", c.Warm, "the owner has the blob from the start")
	fs.BoolVar(&c.InOrder, "in-order", c.InOrder, "every host has a client that reads the blob from its start")
	fs.DurationVar(&c.Takeover, "takeover", c.Takeover, "time from an owner's loss to its successor's first step")
	fs.IntVar(&c.Outstanding, "outstanding", c.Outstanding, "pieces on their way to a host at once")
	fs.IntVar(&c.Slots, "slots", c.Slots, "uploads of a host at once")
	fs.IntVar(&c.Neighbours, "neighbours", c.Neighbours, "neighbours that a host is given")
	fs.Uint64Var(&c.Seed, "seed", c.Seed, "seed of all random choices; the same seed gives the same run")
	fs.IntVar(&o.runs, "runs", 1, "runs, with seeds that follow each other")
	fs.StringVar(&o.output, "o", "table", "output: table or json")
	fs.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile to this file")
	for _, kind := range []sim.Kind{sim.Kill, sim.Cut, sim.Lie} {
		fs.Func(string(kind), faultHelp[kind], func(text string) error { return addFault(c, kind, text) })
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		o.help = true
		return o, nil
	} else if err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("output %q is not table or json", o.output)
	}
	if o.runs < 1 {
		return o, fmt.Errorf("runs is %d, must be at least 1", o.runs)
	}
	return o, c.Validate()
}

var faultHelp = map[sim.Kind]string{
	sim.Kill: "owner@50% or peer@50%: the process of the owner or of a random peer dies when the owner has read half",
	sim.Cut:  "owner@50% or peer@50%: it vanishes without a word",
	sim.Lie:  "peer@50%: from then on all that it serves is wrong",
}

func addFault(c *sim.Config, kind sim.Kind, text string) error {
	who, when, _ := strings.Cut(text, "@")
	if when == "" {
		when = "0%"
	}
	share, err := strconv.ParseFloat(strings.TrimSuffix(when, "%"), 64)
	if err != nil || who != "owner" && who != "peer" {
		return errors.New("want owner@50% or peer@50%")
	}
	c.Faults = append(c.Faults, sim.Fault{Kind: kind, Owner: who == "owner", At: share / 100})
	return nil
}

func bytesVar(fs *flag.FlagSet, v *int64, name, usage string) {
	fs.Func(name, fmt.Sprintf("%s (default %s)", usage, humanize.IBytes(uint64(*v))), func(text string) error {
		n, err := humanize.ParseBytes(text)
		*v = int64(n)
		return err
	})
}

var rateUnits = []struct {
	name  string
	bytes float64
}{{"gbit", 1e9 / 8}, {"mbit", 1e6 / 8}, {"kbit", 1e3 / 8}}

func rateVar(fs *flag.FlagSet, v *float64, name, usage string) {
	fs.Func(name, fmt.Sprintf("%s (default %gmbit)", usage, *v*8/1e6), func(text string) error {
		for _, u := range rateUnits {
			if number, ok := strings.CutSuffix(strings.ToLower(text), u.name); ok {
				n, err := strconv.ParseFloat(number, 64)
				*v = n * u.bytes
				return err
			}
		}
		return errors.New("want a number with gbit, mbit or kbit")
	})
}
