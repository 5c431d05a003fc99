package gossip

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAnEntryIsTheSeatOfTheOneItLeadsTo(t *testing.T) {
	cfg := testConfig()
	cfg.Listen, cfg.Advertise = "0.0.0.0:7946", "10.0.0.1:7946"
	for _, tc := range []struct {
		name     string
		seed     string
		leads    []string
		own, two bool // it is the seat of this node, of the one at 10.0.0.2
	}{
		{"an address", "10.0.0.2", []string{"10.0.0.2:7946"}, false, true},
		{"its own address", "10.0.0.1", []string{"10.0.0.1:7946"}, true, false},
		{"a name", "two", []string{"10.0.0.2:7946"}, false, true},
		{"a name of both families", "two", []string{"10.0.0.2:7946", "[fd00::2]:7946"}, false, true},
		{"a name that many share", "farm.test", []string{"10.0.0.1:7946", "10.0.0.2:7946"}, false, false},
		{"the own name, on the loopback", "one", []string{"127.0.1.1:7946"}, true, false},
		{"the own name at another node's port", "one:7", []string{"127.0.1.1:7"}, false, false},
		{"what every machine is called", "localhost", []string{"127.0.0.1:7946"}, false, false},
		{"what every machine has", "127.0.0.1", []string{"127.0.0.1:7946"}, false, false},
		{"a name without an address", "three", []string{"three:7946"}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg.Seeds = []string{tc.seed}
			s := newSeatTable(cfg)
			s.found(tc.seed, tc.leads)
			if got := len(s.of("10.0.0.1:7946", true)) == 1; got != tc.own {
				t.Errorf("own seat: %v; want %v", got, tc.own)
			}
			if got := len(s.of("10.0.0.2:7946", false)) == 1; got != tc.two {
				t.Errorf("seat of the other: %v; want %v", got, tc.two)
			}
		})
	}
}

func TestAnEntryThatCannotBeLookedUpAnyMoreLeadsWhereItDid(t *testing.T) {
	cfg := testConfig()
	cfg.Seeds = []string{"two"}
	s := newSeatTable(cfg)
	s.found("two", []string{"10.0.0.2:7946"})
	s.found("two", []string{"two:7946"})
	if got := s.of("10.0.0.2:7946", false); !slices.Equal(got, []string{"two"}) {
		t.Errorf("seats = %q; want the name", got)
	}
}

func TestTheFarmOfOneMachineTellsItsNodesApart(t *testing.T) {
	cfg := testConfig()
	cfg.Listen, cfg.Advertise = "127.0.0.1:7101", ""
	cfg.Seeds = []string{"127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.2:7101"}
	s := newSeatTable(cfg)
	if got := s.of("127.0.0.1:7101", true); !slices.Equal(got, cfg.Seeds[:1]) {
		t.Errorf("own seats = %q; want the first", got)
	}
	if got := s.of("127.0.0.1:7102", false); !slices.Equal(got, cfg.Seeds[1:2]) {
		t.Errorf("seats of the second = %q; want the second", got)
	}
	if a := machineAddresses(); !slices.Contains(a, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("machineAddresses() = %v; want the loopback among them", a)
	}
}
