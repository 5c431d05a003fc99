package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/adminapi"
)

// An AddressError says which address cannot be taken, and which key of the configuration has it.
type AddressError struct {
	Key, Address string
	Err          error
}

func (e *AddressError) Error() string {
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		flag := strings.ReplaceAll(e.Key, ".", "-") // so are all keys of addresses named
		return fmt.Sprintf("address %s is in use by another program; change %s (--%s)", e.Address, e.Key, flag)
	}
	return fmt.Sprintf("listen on %s (%s): %v", e.Address, e.Key, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }

// addressError is an *AddressError, or nil without an error.
func addressError(key, address string, err error) error {
	if err == nil {
		return nil
	}
	return &AddressError{key, address, err}
}

// Busy names every address of c that another program has now, as one *AddressError each. It tells all at once what
// Open and Run tell one after the other; a node of this configuration must not be open.
func (c Config) Busy() error {
	var errs []error
	try := func(key, address string, listen func(address string) error) {
		if strings.HasSuffix(address, ":0") || address == "" {
			return
		}
		if err := listen(address); errors.Is(err, syscall.EADDRINUSE) {
			errs = append(errs, addressError(key, address, err))
		}
	}
	for _, address := range c.Registry.Listen {
		try("registry.listen", address, tryTCP)
	}
	try("peer.listen", c.PeerListen, tryTCP)
	try("gossip.listen", c.Gossip.Listen, tryBoth)
	try("admin.listen", c.AdminListen, tryTCP)
	return errors.Join(errs...)
}

func tryTCP(address string) error {
	l, err := net.Listen(network("tcp", address), address)
	if err != nil {
		return err
	}
	return l.Close()
}

func tryBoth(address string) error {
	c, err := net.ListenPacket(network("udp", address), address)
	if err != nil {
		return err
	}
	return errors.Join(tryTCP(address), c.Close())
}

// network is protocol ("tcp" or "udp") as it is right for an address to listen on. Without a version Go takes 0.0.0.0
// for all IPv6 addresses as well, which nobody has asked for. [::] does mean both.
func network(protocol, address string) string {
	a, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || a.Addr() == netip.IPv6Unspecified():
		return protocol
	case a.Addr().Unmap().Is4():
		return protocol + "4"
	}
	return protocol + "6"
}

// openRegistry takes the addresses of the registry door.
func (n *Node) openRegistry() error {
	for _, address := range n.cfg.Registry.Listen {
		l, err := net.Listen(network("tcp", address), address)
		if err != nil {
			if slices.Contains(n.cfg.OptionalListen, address) && !errors.Is(err, syscall.EADDRINUSE) {
				n.log.Debug("address not available", slog.String("address", address), slog.Any("error", err))
				continue
			}
			return addressError("registry.listen", address, err)
		}
		n.doors = append(n.doors, l)
	}
	if len(n.doors) == 0 {
		return fmt.Errorf("no address of registry.listen could be taken")
	}
	n.warnOfStrangers()
	return nil
}

// warnOfStrangers says once that the registry is open to more than this host, which is for a container engine's bridge
// or a jump host and not for a farm: every host has a node of its own.
func (n *Node) warnOfStrangers() {
	if open := beyondLoopback(n.doors...); len(open) > 0 && n.cfg.Registry.TLS == nil {
		n.log.Warn("registry is reached from other hosts without TLS", slog.Any("addresses", open), slog.String("change", "registry.tls"))
	}
}

// beyondLoopback are the addresses of listeners that other hosts can reach.
func beyondLoopback(listeners ...net.Listener) []string {
	var open []string
	for _, l := range listeners {
		if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !a.Addr().Unmap().IsLoopback() {
			open = append(open, a.String())
		}
	}
	return open
}

// openAdmin takes the addresses of the admin API.
func (n *Node) openAdmin() error {
	var err error
	if n.cfg.AdminListen != "" {
		if n.adminHTTP, err = net.Listen(network("tcp", n.cfg.AdminListen), n.cfg.AdminListen); err != nil {
			return addressError("admin.listen", n.cfg.AdminListen, err)
		}
		if open := beyondLoopback(n.adminHTTP); len(open) > 0 {
			n.log.Warn("admin API is reached from other hosts, which may read what the farm has",
				slog.Any("addresses", open), slog.String("change", "admin.listen"))
		}
	}
	if n.cfg.AdminSocket == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(n.cfg.AdminSocket), 0o755); err != nil {
		return fmt.Errorf("make directory of admin.socket: %w", err)
	}
	// The data directory's lock is held, so a socket that is there belongs to nobody, unless two nodes were given one.
	if c, err := net.DialTimeout("unix", n.cfg.AdminSocket, time.Second); err == nil { //nolint:noctx // it asks the kernel alone
		_ = c.Close()
		return fmt.Errorf("socket %s is in use by another node; change admin.socket", n.cfg.AdminSocket)
	}
	if err := os.Remove(n.cfg.AdminSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old admin socket: %w", err)
	}
	if n.adminSock, err = net.Listen("unix", n.cfg.AdminSocket); err != nil {
		return addressError("admin.socket", n.cfg.AdminSocket, err)
	}
	return os.Chmod(n.cfg.AdminSocket, 0o660)
}

// An adminDoor is the admin API on one listener.
type adminDoor struct {
	listener net.Listener
	server   *http.Server
}

// buildAdmin makes the admin API for the listeners that there are. Profiles are for the socket, whose file mode is the
// right to them.
func (n *Node) buildAdmin() error {
	token, err := n.adminToken()
	if err != nil {
		return err
	}
	for _, l := range []net.Listener{n.adminHTTP, n.adminSock} {
		if l == nil {
			continue
		}
		cfg := adminapi.Default()
		cfg.Token = token
		cfg.Version, cfg.Socket = n.cfg.Version, n.cfg.AdminSocket
		if l == n.adminSock {
			cfg.UnixSocket, cfg.Profiles = true, true
		} else {
			cfg.Listen = []string{l.Addr().String()}
		}
		server := adminapi.NewServer(adminapi.New(cfg, operators{n}, n.metricsHandler(), n.log), n.log)
		n.admin = append(n.admin, adminDoor{l, server})
	}
	return nil
}

// serveAdmin starts the admin API.
func (n *Node) serveAdmin(g *errgroup.Group) {
	for _, d := range n.admin {
		g.Go(func() error { return ignoreStopped(d.server.Serve(d.listener)) })
	}
}

// advertised is the address that peers are told, with the port that was taken when port 0 was asked for.
func advertised(address string, l net.Listener) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("peer.advertise %q: %w", address, err)
	}
	if port != "0" {
		return address, nil
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), err
}
