package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/adminapi"
)

// addressError says which address cannot be taken and what to change.
func addressError(key, address string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("address %s is in use by another program; change %s", address, key)
	}
	return fmt.Errorf("listen on %s (%s): %w", address, key, err)
}

// openRegistry takes the addresses of the registry door.
func (n *Node) openRegistry() error {
	for _, address := range n.cfg.Registry.Listen {
		l, err := net.Listen("tcp", address)
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
	return nil
}

// openAdmin takes the addresses of the admin API.
func (n *Node) openAdmin() error {
	var err error
	if n.cfg.AdminListen != "" {
		if n.adminHTTP, err = net.Listen("tcp", n.cfg.AdminListen); err != nil {
			return addressError("admin.listen", n.cfg.AdminListen, err)
		}
	}
	if n.cfg.AdminSocket == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(n.cfg.AdminSocket), 0o755); err != nil {
		return fmt.Errorf("make directory of admin.socket: %w", err)
	}
	// The data directory's lock is held, so a socket that is there belongs to nobody, unless two nodes were given one.
	if c, err := net.DialTimeout("unix", n.cfg.AdminSocket, time.Second); err == nil {
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

// serveAdmin starts the admin API on its listeners. Profiles are for the socket, whose file mode is the right to them.
func (n *Node) serveAdmin(g *errgroup.Group) {
	for _, l := range []net.Listener{n.adminHTTP, n.adminSock} {
		if l == nil {
			continue
		}
		cfg := adminapi.Default()
		cfg.Version = n.cfg.Version
		if l == n.adminSock {
			cfg.UnixSocket, cfg.Profiles = true, true
		} else {
			cfg.Listen = []string{l.Addr().String()}
		}
		s := adminapi.NewServer(adminapi.New(cfg, operators{n}, n.metricsHandler(), n.log), n.log)
		n.admin = append(n.admin, s)
		g.Go(func() error { return ignoreStopped(s.Serve(l)) })
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
