package sim_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

const (
	gbit = 1e9 / 8
	mbit = 1e6 / 8
)

// runs is the worst of a few runs that differ in their seeds.
func runs(t *testing.T, n int, change func(*sim.Config)) sim.Result {
	t.Helper()
	var worst sim.Result
	for seed := range uint64(n) {
		cfg := sim.Default()
		cfg.Seed = seed + 1
		change(&cfg)
		r, err := sim.Run(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Mean > worst.Mean {
			worst = r
		}
	}
	return worst
}

func atMost(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got > want {
		t.Errorf("%s = %.3f; want at most %.3f", what, got, want)
	}
}

func fetchedOnce(t *testing.T, r sim.Result) {
	t.Helper()
	if r.UpstreamRatio != 1 {
		t.Errorf("the upstream sent %.3f times the blob; want once", r.UpstreamRatio)
	}
}

func TestFewHostsAreNearTheBound(t *testing.T) {
	for hosts, most := range map[int]float64{1: 1.01, 2: 1.01, 3: 1.02, 4: 1.02, 8: 1.03, 32: 1.06} {
		r := runs(t, 5, func(c *sim.Config) { c.Hosts = hosts })
		atMost(t, "mean ÷ bound", r.Mean, most)
		fetchedOnce(t, r)
	}
}

func TestHundredsOfHostsAreNearTheBound(t *testing.T) {
	r := runs(t, 1, func(c *sim.Config) { c.Hosts = 512; c.Size = 512 << 20 })
	atMost(t, "mean ÷ bound for half the blob that the target is about", r.Mean, 1.15)
	fetchedOnce(t, r)
	if testing.Short() {
		return
	}
	r = runs(t, 1, func(c *sim.Config) { c.Hosts = 512 })
	atMost(t, "mean ÷ bound", r.Mean, 1.10)
	atMost(t, "p99 ÷ bound", r.P99, 1.13)
	atMost(t, "bytes of messages ÷ bytes of pieces", r.Overhead, 0.002)
}

func TestAShapedFarmOfEight(t *testing.T) {
	shaped := func(upstream float64) func(*sim.Config) {
		return func(c *sim.Config) {
			c.HostRate, c.UpstreamRate, c.Size = 200*mbit, upstream, 256<<20
		}
	}
	atMost(t, "max ÷ bound behind 100 Mbit/s", runs(t, 10, shaped(100*mbit)).Max, 1.03)
	atMost(t, "max ÷ bound behind 200 Mbit/s", runs(t, 10, shaped(200*mbit)).Max, 1.10)
}

func TestTheUpstreamAsBottleneckIsKeptBusy(t *testing.T) {
	for _, rate := range []float64{gbit, 5 * gbit} {
		for _, hosts := range []int{8, 64} {
			r := runs(t, 2, func(c *sim.Config) { c.Hosts, c.UpstreamRate = hosts, rate })
			atMost(t, "p99 ÷ bound", r.P99, 1.03)
			fetchedOnce(t, r)
		}
	}
}

func TestARollingStartIsNearEachHostsBound(t *testing.T) {
	r := runs(t, 2, func(c *sim.Config) { c.Hosts, c.Rolling = 64, 40*time.Millisecond })
	atMost(t, "mean ÷ bound", r.Mean, 1.03)
	fetchedOnce(t, r)
}

func TestAnOwnerThatHasTheBlobServesAllAtOnce(t *testing.T) {
	r := runs(t, 2, func(c *sim.Config) { c.Hosts, c.Warm = 64, true })
	atMost(t, "mean ÷ bound", r.Mean, 1.06)
	if r.UpstreamRatio != 0 {
		t.Errorf("%.3f of the blob came from the upstream; want none", r.UpstreamRatio)
	}
}

func TestLosingTheOwnerCostsLittle(t *testing.T) {
	for _, kind := range []sim.Kind{sim.Kill, sim.Cut} {
		r := runs(t, 3, func(c *sim.Config) {
			c.Hosts = 8
			c.Faults = []sim.Fault{{Kind: kind, Owner: true, At: 0.5}}
		})
		atMost(t, "max ÷ bound", r.Max, 2)
		atMost(t, "bytes from the upstream ÷ unique", r.UpstreamRatio, 1.05)
	}
}

func TestLosingAPeerCostsLittle(t *testing.T) {
	for _, kind := range []sim.Kind{sim.Kill, sim.Cut, sim.Lie} {
		for _, at := range []float64{0, 0.5} {
			r := runs(t, 3, func(c *sim.Config) {
				c.Hosts = 8
				c.Faults = []sim.Fault{{Kind: kind, At: at}}
			})
			atMost(t, "max ÷ bound after "+string(kind), r.Max, 1.3)
			fetchedOnce(t, r)
			if kind == sim.Lie && r.Accused != 1 {
				t.Errorf("%d hosts were found lying; want the one that did", r.Accused)
			}
		}
	}
}

func TestEachZoneImportsABlobOnce(t *testing.T) {
	for _, zones := range []int{2, 4} {
		for _, hosts := range []int{8, 64} {
			r := runs(t, 2, func(c *sim.Config) { c.Hosts, c.Zones = hosts, zones })
			atMost(t, "bytes across zones ÷ unique × (zones − 1)", r.CrossRatio, 1.1)
			fetchedOnce(t, r)
		}
	}
}

func TestOneSeedGivesOneRun(t *testing.T) {
	cfg := sim.Default()
	cfg.Hosts, cfg.Size = 32, 128<<20
	a, err := sim.Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := sim.Run(cfg)
	cfg.Seed++
	c, _ := sim.Run(cfg)
	if a != b {
		t.Errorf("two runs with one seed differ:\n%+v\n%+v", a, b)
	}
	if a == c {
		t.Error("runs with two seeds are equal")
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	cfg := sim.Config{Loss: 2, Faults: []sim.Fault{{Kind: "sneeze"}}}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("an empty configuration is valid")
	}
	for _, want := range []string{"hosts", "size", "rtt", "loss", "sneeze"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v; want a word about %s", err, want)
		}
	}
	if _, err := sim.Run(cfg); err == nil {
		t.Error("Run takes a configuration that is not valid")
	}
}
