package adminapi

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A guard keeps web pages away from the door: a browser on the host reaches loopback as well as p2pctl does.
type guard struct {
	anyHost bool // unix socket
	anyAddr bool // listens on all addresses; an IP address cannot be rebound
	names   map[string]bool
	addrs   map[netip.Addr]bool
}

func newGuard(cfg Config) guard {
	g := guard{anyHost: cfg.UnixSocket, names: map[string]bool{"localhost": true}, addrs: map[netip.Addr]bool{}}
	for _, name := range cfg.Hosts {
		g.names[strings.ToLower(name)] = true
	}
	for _, address := range cfg.Listen {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue // Validate has refused it
		}
		addr, err := netip.ParseAddr(host)
		switch {
		case host == "" || err == nil && addr.IsUnspecified():
			g.anyAddr = true
		case err == nil:
			g.addrs[plain(addr)] = true
		default:
			g.names[strings.ToLower(host)] = true
		}
	}
	return g
}

// allowHost tells whether a request with that Host was meant for this door. A page that has its own name resolve to
// loopback (DNS rebinding) sends that name.
func (g guard) allowHost(host string) bool {
	if g.anyHost {
		return true
	}
	name := strings.ToLower(hostname(host))
	if g.names[name] {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	addr = plain(addr)
	return addr.IsLoopback() || g.anyAddr || g.addrs[addr]
}

// hostname is the host of "host", "host:port", "[host]" or "[host]:port", and "" for anything else.
func hostname(host string) string {
	if inside, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(host, "]") {
		return strings.TrimSuffix(inside, "]")
	}
	if !strings.Contains(host, ":") {
		return host
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return ""
	}
	return name
}

func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }

// foreign tells whether a browser sends r for a page of another origin.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// secure sets the headers that keep a browser from making anything but data of an answer.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
}
