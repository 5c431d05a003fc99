package registryapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// hosts decides which Host headers the door answers to.
type hosts struct {
	exact   map[string]bool // host:port texts that are known to be right, to answer most requests by one look
	names   map[string]bool
	addrs   map[netip.Addr]bool
	anyAddr bool // listens on all addresses: an IP address cannot be rebound, so each is as good as another
}

func newHosts(listen, names []string) (hosts, error) {
	h := hosts{exact: map[string]bool{}, names: map[string]bool{"localhost": true}, addrs: map[netip.Addr]bool{}}
	var problems []error
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, ":/ ") {
			problems = append(problems, fmt.Errorf("host name %q must have no port, path or space", name))
		}
		h.names[strings.ToLower(name)] = true
	}
	for _, address := range listen {
		if err := h.addListen(address); err != nil {
			problems = append(problems, err)
		}
	}
	return h, errors.Join(problems...)
}

func (h *hosts) addListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", address, err)
	}
	h.exact["localhost:"+port] = true
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && addr.IsUnspecified():
		h.anyAddr = true
	case err == nil:
		h.addrs[addr.WithZone("").Unmap()] = true
		h.exact[address] = true
	default:
		h.names[strings.ToLower(host)] = true
		h.exact[strings.ToLower(address)] = true
	}
	return nil
}

// allow tells whether a request with this Host header was meant for this door.
func (h *hosts) allow(host string) bool {
	if h.exact[host] {
		return true
	}
	name := strings.ToLower(strings.TrimSuffix(withoutPort(host), "."))
	if h.names[name] {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	addr = addr.WithZone("").Unmap()
	return addr.IsLoopback() || h.anyAddr || h.addrs[addr]
}

// names are by what a request's path names repositories. To a client that asks by the farm's own name, which the hosts
// file may lead here, the farm is a registry like any other: its repositories are those without a further name.
func (h *Handler) names(r *http.Request) oci.Names {
	names := h.cfg.Names
	if h.asFarm(r) {
		names.Default = names.HostedPrefix
	}
	return names
}

// asFarm tells whether a request was sent to the farm's own name.
func (h *Handler) asFarm(r *http.Request) bool {
	if h.hosting == nil || h.hosts.exact[r.Host] {
		return false
	}
	return strings.EqualFold(strings.TrimSuffix(withoutPort(r.Host), "."), h.hosting.Prefix())
}

// withoutPort is the host of host:port or [host]:port; what is neither stays as it is.
func withoutPort(host string) string {
	if strings.HasPrefix(host, "[") {
		inside, after, ok := strings.Cut(host[1:], "]")
		if !ok || after != "" && !isPort(after) {
			return host
		}
		return inside
	}
	if i := strings.IndexByte(host, ':'); i >= 0 && isPort(host[i:]) {
		return host[:i]
	}
	return host
}

// isPort tells whether text is a colon and digits.
func isPort(text string) bool {
	return text[0] == ':' && strings.Trim(text[1:], "0123456789") == ""
}
