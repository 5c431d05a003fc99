package main

import (
	"fmt"
	"io"
	"net"

	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/node"
)

// greet tells a person where the registry is and what to put into daemon.json.
func greet(w io.Writer, n *node.Node, cfg config.Config) {
	if !isTerminal(w) {
		return
	}
	address := n.RegistryAddresses()[0]
	_, _ = fmt.Fprintf(w, `Pullonce node %s mirrors %s on http://%s, data under %s.

Let this host's Docker pull through it, in /etc/docker/daemon.json:

  { "registry-mirrors": ["http://%s"] }

then reload Docker (systemctl reload docker) and pull as before. Other registries are pulled by name:
`, n.ID(), cfg.DefaultUpstream, address, cfg.DataDir, address)
	for name := range cfg.Upstreams {
		if name != cfg.DefaultUpstream {
			_, _ = fmt.Fprintf(w, "  docker pull %s/%s/…\n", address, name)
		}
	}
	if _, port, err := net.SplitHostPort(address); err == nil {
		_, _ = fmt.Fprintf(w, "  docker pull localhost:%s/library/alpine\n\nStop with Ctrl-C.\n\n", port)
	}
}
