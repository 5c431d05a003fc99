package netfarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

const (
	gossipPort = 7946
	peerPort   = 7947
	askTimeout = 2 * time.Second
)

// A Node is a p2pd that runs on a host.
type Node struct {
	*Process
	admin *adminapi.Client
}

// NodeConfig is the configuration of a node on the host, as YAML, with the keys that a farm needs; seeds are the hosts
// whose nodes it asks for the farm. More keys can be appended.
func (h *Host) NodeConfig(seeds ...*Host) string {
	join := make([]string, len(seeds))
	for i, seed := range seeds {
		join[i] = fmt.Sprintf("%q", fmt.Sprintf("%s:%d", seed.addr, gossipPort))
	}
	return fmt.Sprintf(`data_dir: %s
registry: {listen: "127.0.0.1:5000"}
peer: {listen: "0.0.0.0:%d", advertise: "%s:%d"}
gossip: {listen: "0.0.0.0:%d", advertise: "%s:%d"}
admin: {listen: "127.0.0.1:5080", socket: %s}
join: [%s]
log: {level: debug}
`, filepath.Join(h.dir, "p2pd"), peerPort, h.addr, peerPort, gossipPort, h.addr, gossipPort,
		h.nodeSocket(), strings.Join(join, ", "))
}

func (h *Host) nodeSocket() string { return filepath.Join(h.dir, "p2pd.sock") }

// StartNode starts p2pd on the host with a configuration that NodeConfig has begun, and env on top of it, and returns
// when it is ready. The first node founds the farm's trust, and the others join with tokens of its, unless env says
// P2PD_TRUST_MODE=none.
func (h *Host) StartNode(ctx context.Context, program, config string, env ...string) (*Node, error) {
	file := filepath.Join(h.dir, "p2pd.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("configure the node on %s: %w", h.name, err)
	}
	admin, err := adminapi.NewClient("unix://" + h.nodeSocket())
	if err != nil {
		return nil, err
	}
	more, started, err := h.farm.members.admit(ctx, h, config, env)
	if err != nil {
		return nil, fmt.Errorf("admit the node on %s: %w", h.name, err)
	}
	env = append(env, more...)
	n := &Node{admin: admin}
	n.Process, err = h.Start(ctx, Spec{
		Name: "p2pd",
		Args: []string{program, "--config", file},
		Env:  append([]string{"P2PD_CACHE_MIN_FREE=1MiB", "P2PD_HOSTED_MIN_FREE=1MiB"}, env...), // the machine may be nearly full
		Ready: func(ctx context.Context) error {
			_, err := n.Status(ctx)
			return err
		},
	})
	if err != nil {
		started(nil)
		return n, err
	}
	started(n)
	return n, nil
}

// Status asks the node for the farm's status.
func (n *Node) Status(ctx context.Context) (adminapi.FarmStatus, error) {
	return n.admin.Status(ctx, askTimeout)
}

// WaitFarm waits until the node sees a farm of that many members, all of whom answer and have the same ring, for at most
// 30 s.
func (n *Node) WaitFarm(ctx context.Context, members int) error {
	ctx, cancel := context.WithTimeout(ctx, defaultReadyWithin)
	defer cancel()
	err := Poll(ctx, n.alive(func(ctx context.Context) error {
		status, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if status.Totals.Answered != members || !status.Ring.Agree || !sharesRing(status) {
			return fmt.Errorf("%d of %d members answered, of %d; one ring: %t",
				status.Totals.Answered, status.Totals.Members, members, status.Ring.Agree)
		}
		return nil
	}))
	if err != nil {
		return fmt.Errorf("wait for a farm of %d: %w", members, err)
	}
	return nil
}

// sharesRing says whether all members own a part of the ring: two farms of one agree, too, where they are equally alone.
func sharesRing(status adminapi.FarmStatus) bool {
	owned, partitions := 0, 0
	for _, m := range status.Members {
		if m.Node == nil || m.Node.Ring.OwnedPartitions == 0 {
			return false
		}
		owned, partitions = owned+m.Node.Ring.OwnedPartitions, m.Node.Ring.Partitions
	}
	return owned == partitions
}

// WaitFarm waits until all nodes see one farm of them.
func WaitFarm(ctx context.Context, nodes ...*Node) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.WaitFarm(ctx, len(nodes)))
	}
	return errors.Join(errs...)
}
