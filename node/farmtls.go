package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/trust"
)

// maxRegistryNames is how many names a certificate of the farm's CA may have.
const maxRegistryNames = 32

// validate refuses a door that would serve in the clear, or by two certificates.
func (d Door) validate(mode trust.Mode, files *tls.Config) error {
	switch {
	case !d.FarmTLS:
	case mode != trust.Auto:
		return fmt.Errorf("node: registry.tls.mode farm needs a CA of the farm, and trust.mode is %s: use registry.tls.mode files", mode)
	case files != nil:
		return errors.New("node: registry.tls.mode farm, and a certificate besides")
	}
	return nil
}

// serveByFarm has the registry show a certificate of the farm's CA. Until there is one, nobody beyond loopback is served.
func (n *Node) serveByFarm() {
	if n.cfg.Door.FarmTLS {
		n.cfg.Registry.TLS = &tls.Config{GetCertificate: n.trust.DoorCertificate, MinVersion: tls.VersionTLS12}
	}
}

// nameRegistry tells trust what names the registry's certificate must have, which may change with the host's addresses.
func (n *Node) nameRegistry() error {
	if !n.cfg.Door.FarmTLS {
		return nil
	}
	var own []netip.Addr
	if slices.ContainsFunc(n.doors, func(l net.Listener) bool { return listensOn(l).IsUnspecified() }) {
		var err error
		if own, err = hostAddresses(); err != nil {
			return fmt.Errorf("addresses of this host: %w", err)
		}
	}
	names, left := registryNames(n.cfg, n.doors, own)
	if len(left) > 0 {
		n.log.Warn("certificate of the registry has not all addresses of this host", slog.Any("addresses", left), slog.String("change", "registry.listen"))
	}
	if names == nil {
		return nil
	}
	if err := n.trust.ServeAs(names); err != nil {
		return fmt.Errorf("registry.hosts: %w", err)
	}
	return nil
}

// registryNames are what clients beyond loopback may reach the registry by: the names that it answers to, and the addresses
// that it listens on, which are own where it listens on all. left are those for which there is no room. Without listeners
// beyond loopback there are no names.
func registryNames(cfg Config, doors []net.Listener, own []netip.Addr) (names []string, left []netip.Addr) {
	names = append([]string{"localhost"}, cfg.Registry.Hosts...)
	if cfg.Hosted.Prefix != "" {
		names = append(names, cfg.Hosted.Prefix)
	}
	for _, address := range cfg.Registry.Listen {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" && net.ParseIP(host) == nil && !strings.Contains(host, "%") {
			names = append(names, host)
		}
	}
	var addresses []netip.Addr
	for _, l := range doors {
		if registryapi.OnLoopback(l.Addr()) {
			continue
		}
		if a := listensOn(l); !a.IsUnspecified() {
			addresses = append([]netip.Addr{a}, addresses...)
			continue
		}
		addresses = append(addresses, own...)
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	for _, a := range addresses {
		switch {
		case slices.Contains(names, a.String()):
		case len(names) >= maxRegistryNames:
			left = append(left, a)
		default:
			names = append(names, a.String())
		}
	}
	return names, left
}

// listensOn is the address of a listener without its zone.
func listensOn(l net.Listener) netip.Addr {
	a, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// hostAddresses are this host's, those of loopback too: a listener on all addresses is reached by them as well. Addresses
// that mean something on one link only are left out.
func hostAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		if addr := prefix.Addr().Unmap(); err == nil && (addr.IsGlobalUnicast() || addr.IsLoopback()) {
			out = append(out, addr.WithZone(""))
		}
	}
	return out, nil
}
