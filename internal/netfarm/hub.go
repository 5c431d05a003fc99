package netfarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/pullonce/pullonce/internal/hub"
)

// The ports of a stand-in; clients know the registry by the usual one.
const (
	registryPort = 443
	tokenPort    = 444
	cdnPort      = 445
)

// HubNames are the host names of a stand-in's three parts.
type HubNames struct{ Registry, Token, CDN string }

// DockerHub returns Docker Hub's own names.
func DockerHub() HubNames {
	return HubNames{"registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com"}
}

// OneName has all three parts under one name, as a small registry has.
func OneName(name string) HubNames { return HubNames{name, name, name} }

// At is what a host resolves to find the stand-in on that host, for Host.Resolve.
func (n HubNames) At(h *Host) map[string]netip.Addr {
	return map[string]netip.Addr{n.Registry: h.addr, n.Token: h.addr, n.CDN: h.addr}
}

// StartHub starts a stand-in on the host, over TLS, in this process. Programs on hosts that are told the names reach it
// at https://<names.Registry>, and trust it if they are started afterwards. The farm closes it.
func (h *Host) StartHub(ctx context.Context, cfg hub.Config, names HubNames) (*hub.Hub, error) {
	started, err := h.startHub(ctx, cfg, names)
	if err != nil {
		return nil, fmt.Errorf("start the stand-in %s on %s: %w", names.Registry, h.name, err)
	}
	h.onClose(started.Close)
	return started, nil
}

func (h *Host) startHub(ctx context.Context, cfg hub.Config, names HubNames) (*hub.Hub, error) {
	config, authority, err := hub.SelfSigned(names.Registry, names.Token, names.CDN, h.addr.String())
	if err != nil {
		return nil, err
	}
	if err := h.farm.trust(authority); err != nil {
		return nil, err
	}
	cfg.TLS = config
	cfg.RegistryURL = "https://" + names.Registry
	cfg.AuthURL = fmt.Sprintf("https://%s:%d", names.Token, tokenPort)
	cfg.CDNURL = fmt.Sprintf("https://%s:%d", names.CDN, cdnPort)
	for port, listener := range map[int]*net.Listener{
		registryPort: &cfg.RegistryListener, tokenPort: &cfg.AuthListener, cdnPort: &cfg.CDNListener,
	} {
		if *listener, err = h.Listen(ctx, "tcp", netip.AddrPortFrom(h.addr, uint16(port)).String()); err != nil {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(cfg.RegistryListener, cfg.AuthListener, cfg.CDNListener))
	}
	return hub.Start(cfg)
}

func closeAll(listeners ...net.Listener) error {
	var errs []error
	for _, l := range listeners {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// trust has programs that are started from now on trust a certificate.
func (f *Farm) trust(pem []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(f.CAFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(pem)
	return errors.Join(err, file.Close())
}
