package node

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/pullonce/pullonce/registryapi"
)

// Door says what else protects the doors.
type Door struct {
	// FarmTLS has the registry show a certificate of the farm's CA beyond loopback.
	FarmTLS bool
	// AdminTokenFile holds what lets the admin API change the farm over HTTP; "" is nothing.
	AdminTokenFile string
}

// openDoor makes the registry door, to which hosted names can be pushed unless there is no prefix for them.
func (n *Node) openDoor() (*registryapi.Handler, error) {
	n.hosting = newHosting(n)
	if n.cfg.MirrorAuthBearer {
		n.cfg.Registry.BaseChallenge = n.baseChallenge
	}
	cfg := n.cfg.Registry
	if cfg.Names.HostedPrefix = n.cfg.Hosted.Prefix; cfg.Names.HostedPrefix == "" {
		return registryapi.New(cfg, n, n.log, n.metrics.registry)
	}
	return registryapi.NewHosting(cfg, n, n.hosting, n.log, n.metrics.registry)
}

// baseChallenge asks clients for a token of the default upstream's token service. The realm is the configuration's: what
// comes over the network must not say where an engine sends its user's password.
func (n *Node) baseChallenge() string {
	challenge := fmt.Sprintf("Bearer realm=%q", n.cfg.AuthRealm)
	if n.cfg.AuthService != "" {
		challenge += fmt.Sprintf(",service=%q", n.cfg.AuthService)
	}
	return challenge
}

// adminToken is what lets the admin API change the farm over HTTP, "" for nothing.
func (n *Node) adminToken() (string, error) {
	if n.cfg.Door.AdminTokenFile == "" {
		return "", nil
	}
	raw, err := os.ReadFile(n.cfg.Door.AdminTokenFile)
	if err != nil {
		return "", fmt.Errorf("read admin.token_file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// Reload has credentials, and the certificates of a site's PKI, read anew: at once, or when they are next needed. What
// cannot be read stays what it was. A registry that listens on all of the host's addresses gets a certificate for those
// that it has by now. It may be called at any time.
func (n *Node) Reload() {
	for _, c := range n.upstreams.clients {
		c.Forget()
	}
	if !n.trusting() {
		return
	}
	if err := n.nameRegistry(); err != nil {
		n.log.Error("certificate of the registry keeps its names", slog.Any("error", err))
	}
	changed, err := n.trust.Reload()
	if err != nil {
		n.log.Error("certificates could not be read again: those from before hold", slog.Any("error", err))
	}
	if changed {
		n.trustChanged(n.trust.State())
	}
}
