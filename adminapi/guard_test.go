package adminapi

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyHostsOfThisDoorAreRight(t *testing.T) {
	own := newGuard(Config{Listen: []string{"127.0.0.3:5080", "10.0.0.5:5080", "node.lan:5080"}, Hosts: []string{"p2pd.svc"}})
	all := newGuard(Config{Listen: []string{"0.0.0.0:5080"}})
	socket := newGuard(Config{UnixSocket: true})
	for _, row := range []struct {
		host             string
		own, all, socket bool
	}{
		{"localhost", true, true, true},
		{"LOCALHOST:1", true, true, true},
		{"127.0.0.1:5080", true, true, true},
		{"127.0.0.3", true, true, true},
		{"[::1]:5080", true, true, true},
		{"[::1]", true, true, true},
		{"[::ffff:127.0.0.1]:5080", true, true, true},
		{"10.0.0.5:5080", true, true, true},
		{"10.0.0.6:5080", false, true, true},
		{"node.lan:5080", true, false, true},
		{"p2pd.svc:5080", true, false, true},
		{"", false, false, true},
		{"evil.example", false, false, true},
		{"evil.example:5080", false, false, true},
		{"127.0.0.1.evil.example:5080", false, false, true},
		{"localhost.evil.example", false, false, true},
		{"localhost:5080:5080", false, false, true},
		{"[localhost", false, false, true},
		{"::1", false, false, true},
	} {
		if got := own.allowHost(row.host); got != row.own {
			t.Errorf("own.allowHost(%q) = %v; want %v", row.host, got, row.own)
		}
		if got := all.allowHost(row.host); got != row.all {
			t.Errorf("all.allowHost(%q) = %v; want %v", row.host, got, row.all)
		}
		if got := socket.allowHost(row.host); got != row.socket {
			t.Errorf("socket.allowHost(%q) = %v; want %v", row.host, got, row.socket)
		}
	}
}

// A name that is let through must be localhost or an address of this host, whatever surrounds it.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"localhost", "127.0.0.1:5080", "[::1]:1", "[fe80::1%eth0]:2", "evil.example", "a:b:c", "[", "]", ""} {
		f.Add(seed)
	}
	g := newGuard(Config{Listen: []string{"127.0.0.1:5080"}})
	f.Fuzz(func(t *testing.T, host string) {
		if !g.allowHost(host) {
			return
		}
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			name = strings.Trim(host, "[]")
		}
		addr, err := netip.ParseAddr(name)
		if !strings.EqualFold(name, "localhost") && (err != nil || !addr.Unmap().WithZone("").IsLoopback()) {
			t.Errorf("allowHost(%q) = true; want false for %q", host, name)
		}
	})
}
