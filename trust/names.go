package trust

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of what a registry may be called. A host name has at most 253 bytes, each of its labels 63.
const (
	maxNames    = 32
	maxHostName = 253
	maxLabel    = 63
)

// names are what a registry is reached by: host names in lower case and addresses, each sorted and without doubles. Only
// parseNames and those who read certificates make them.
type names struct {
	hosts     []string
	addresses []netip.Addr
}

// parseNames reads host names and IP addresses, of which there must be one at least.
func parseNames(list []string) (names, error) {
	var n names
	for _, text := range list {
		if a, err := netip.ParseAddr(text); err == nil {
			n.addresses = append(n.addresses, a.Unmap())
			continue
		}
		n.hosts = append(n.hosts, strings.ToLower(text))
	}
	return n.tidied()
}

// tidied is n sorted and without doubles, or what is wrong with it.
func (n names) tidied() (names, error) {
	for _, host := range n.hosts {
		if err := checkHost(host); err != nil {
			return names{}, err
		}
	}
	for _, a := range n.addresses {
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return names{}, fmt.Errorf("address %s is not one of a single host in all the network", a)
		}
	}
	slices.Sort(n.hosts)
	slices.SortFunc(n.addresses, netip.Addr.Compare)
	n.hosts, n.addresses = slices.Compact(n.hosts), slices.Compact(n.addresses)
	if count := len(n.hosts) + len(n.addresses); count == 0 || count > maxNames {
		return names{}, fmt.Errorf("%d names: want 1 to %d", count, maxNames)
	}
	return n, nil
}

// checkHost tells what is wrong with a host name in lower case. A pattern is none: it would stand for hosts of others.
func checkHost(host string) error {
	if len(host) > maxHostName {
		return fmt.Errorf("host name %.20q… is %d bytes long: want at most %d", host, len(host), maxHostName)
	}
	last := ""
	for label := range strings.SplitSeq(host, ".") {
		strange := func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, strange) {
			return fmt.Errorf("%q is neither a host name nor an IP address", host)
		}
		last = label
	}
	if !strings.ContainsFunc(last, func(c rune) bool { return c < '0' || c > '9' }) {
		return fmt.Errorf("%q would be taken for an IP address", host)
	}
	return nil
}

// ips are the addresses as certificates have them.
func (n names) ips() []net.IP {
	list := make([]net.IP, 0, len(n.addresses))
	for _, a := range n.addresses {
		list = append(list, a.AsSlice())
	}
	return list
}

// namesOf are names as certificates and requests for them have them.
func namesOf(hosts []string, ips []net.IP) (names, error) {
	n := names{hosts: slices.Clone(hosts)}
	for _, ip := range ips {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return names{}, errors.New("an address has neither 4 nor 16 bytes")
		}
		n.addresses = append(n.addresses, a.Unmap())
	}
	return n.tidied()
}

func (n names) equal(o names) bool {
	return slices.Equal(n.hosts, o.hosts) && slices.Equal(n.addresses, o.addresses)
}

// list is all names as text.
func (n names) list() []string {
	all := slices.Clone(n.hosts)
	for _, a := range n.addresses {
		all = append(all, a.String())
	}
	return all
}
