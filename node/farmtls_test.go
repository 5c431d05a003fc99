package node

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/trust"
)

// bound is a listener that says where it listens.
type bound struct {
	net.Listener
	address string
}

func (b bound) Addr() net.Addr {
	a := netip.MustParseAddrPort(b.address)
	return &net.TCPAddr{IP: a.Addr().AsSlice(), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

func TestARegistrysCertificateHasTheNamesThatItAnswersTo(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")}
	cfg := Default(t.TempDir())
	cfg.Registry.Hosts = []string{"registry.lan"}
	cfg.Registry.Listen = []string{"node.lan:5000", "10.0.0.5:5000", "[fe80::1%eth0]:5000", ":5000"}
	for _, row := range []struct {
		doors []string
		want  string
	}{
		{[]string{"127.0.0.1:5000", "[::1]:5000"}, ""},
		{[]string{"127.0.0.1:5000", "10.0.0.9:5000"}, "localhost registry.lan farm.internal node.lan 10.0.0.9"},
		{[]string{"[fe80::1%eth0]:5000"}, "localhost registry.lan farm.internal node.lan fe80::1"},
		{[]string{"[::]:5000"}, "localhost registry.lan farm.internal node.lan 127.0.0.1 10.0.0.5 fd00::5"},
		{[]string{"0.0.0.0:5000", "10.0.0.5:5001"}, "localhost registry.lan farm.internal node.lan 10.0.0.5 127.0.0.1 fd00::5"},
	} {
		var doors []net.Listener
		for _, address := range row.doors {
			doors = append(doors, bound{address: address})
		}
		got, left := registryNames(cfg, doors, own)
		if strings.Join(got, " ") != row.want || len(left) != 0 {
			t.Errorf("names of a registry at %v = %v without %v; want %v", row.doors, got, left, row.want)
		}
	}
	many := make([]netip.Addr, 40)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
	}
	got, left := registryNames(cfg, []net.Listener{bound{address: "0.0.0.0:5000"}, bound{address: "10.0.0.9:5000"}}, many)
	if len(got) != maxRegistryNames || len(got)+len(left) != 40+5 || !slices.Contains(got, "10.0.0.9") {
		t.Errorf("of 45 names %d are taken and %d left: %v; want %d, with the address that is listened on", len(got), len(left), got, maxRegistryNames)
	}
}

func TestWithoutAFarmsCANoRegistryStartsThatNeedsIt(t *testing.T) {
	for _, mode := range []trust.Mode{trust.None, trust.Own} {
		cfg := Default(t.TempDir())
		cfg.Trust.Mode, cfg.Door.FarmTLS = mode, true
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "use registry.tls.mode files") {
			t.Errorf("Validate() with trust mode %s = %v; want what to use instead", mode, err)
		}
	}
}
