package main

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// greet tells a person where the registry is, how to try it, and what to put into daemon.json. A service's journal can do
// without: there the log says what is needed.
func greet(w io.Writer, n *node.Node, cfg config.Config) {
	if os.Getenv(serviceVariable) == "" {
		_, _ = io.WriteString(w, greeting(n.ID(), forClients(n.RegistryAddresses()[0]), cfg))
	}
}

// serviceVariable is set by systemd for the services that it starts.
const serviceVariable = "INVOCATION_ID"

func greeting(id, address string, cfg config.Config) string {
	text := fmt.Sprintf("Pullonce node %s mirrors %s on http://%s, data under %s.\n\n", id, cfg.DefaultUpstream, address, cfg.DataDir)
	if cfg.DefaultUpstream == oci.DockerHub {
		text += fmt.Sprintf(`To try it without changing Docker:

  docker pull %s/library/alpine

To let this host's Docker pull through it, in /etc/docker/daemon.json:

  { "registry-mirrors": ["http://%s"] }

then reload Docker (systemctl reload docker) and pull as before.

`, address, address)
	}
	var others strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		if name != cfg.DefaultUpstream {
			fmt.Fprintf(&others, "  docker pull %s/%s/…\n", address, name)
		}
	}
	if others.String() == "" {
		text += "Images of other registries: say which when you start it, such as P2PD_UPSTREAMS=ghcr.io,quay.io,\n" +
			"or under upstreams: in the configuration file.\n"
	} else {
		text += "Other registries are pulled by name:\n\n" + others.String()
	}
	return text + "\nStop with Ctrl-C.\n\n"
}

// forClients is a listener's address as clients on this host may use it.
func forClients(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().IsUnspecified() {
		return address
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(a.Port()))
}
