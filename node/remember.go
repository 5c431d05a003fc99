package node

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

const (
	// peersFile is where a node remembers whom it has met, in its data directory.
	peersFile = "peers"
	// maxRemembered bounds them: a few that are still there are enough to find the rest.
	maxRemembered = 64
)

// rememberedPeers are the gossip addresses of members that an earlier run has met. They are asked beside the seeds, so
// that the farm's first node, which has none, finds its farm again after a restart.
func rememberedPeers(dir string) []string {
	raw, err := os.ReadFile(filepath.Join(dir, peersFile))
	if err != nil {
		return nil // there is none at the first start, and any other reason costs only time
	}
	return slices.DeleteFunc(strings.Fields(string(raw)), func(address string) bool {
		_, err := netip.ParseAddrPort(address)
		return err != nil
	})
}

// remember keeps the addresses of the members that are there now, when they have changed. A node that is alone keeps
// what it had: that is when it needs them.
func (d *directory) remember() {
	var addresses []string
	me := d.gossip.Self().ID
	for _, m := range d.gossip.Members() {
		if m.ID != me && m.Alive() && m.GossipAddr != "" {
			addresses = append(addresses, m.GossipAddr)
		}
	}
	addresses = addresses[:min(len(addresses), maxRemembered)]
	if len(addresses) == 0 || slices.Equal(addresses, d.remembered) {
		return
	}
	text := strings.Join(addresses, "\n") + "\n"
	if err := renameio.WriteFile(filepath.Join(d.dir, peersFile), []byte(text), 0o644); err != nil {
		d.log.Warn("members not remembered", slog.Any("error", err))
		return
	}
	d.remembered = addresses
}
