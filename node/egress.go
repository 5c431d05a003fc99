package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/oci"
)

const (
	// egressTries is how often in a row the default upstream must be out of reach before the node says that it has no
	// egress, which moves its part of the ring to others.
	egressTries = 3
	// egressWait is the time between two tries, egressAgain that between two looks of a node without egress, and
	// egressCheck that of one with.
	egressWait, egressAgain, egressCheck = 10 * time.Second, time.Minute, 10 * time.Minute
	// egressTimeout bounds one try.
	egressTimeout = 5 * time.Second
)

// watchEgress finds out whether this node can reach the upstreams, where the configuration leaves it to the node. A node
// counts as one that can until it has failed several times; when no node can, which an upstream that is down looks
// like, the ring takes them all.
func (n *Node) watchEgress(ctx context.Context) error {
	if n.cfg.Egress != EgressAuto {
		return nil
	}
	failed := 0
	for {
		wait := egressWait
		switch reached := n.reachesUpstream(ctx); {
		case reached:
			failed, wait = 0, egressCheck
			if err := n.setEgress(true); err != nil {
				return err
			}
		default:
			if failed++; failed >= egressTries {
				wait = egressAgain
				if err := n.setEgress(false); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// reachesUpstream asks the default upstream whether it is there. Any answer will do.
func (n *Node) reachesUpstream(ctx context.Context) bool {
	client := n.upstreams.clients[n.cfg.Registry.Names.Default]
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	err := client.Ping(ctx)
	return err == nil || !errors.Is(err, oci.ErrUnavailable) && ctx.Err() == nil
}

func (n *Node) setEgress(has bool) error {
	if n.gossip.Self().Egress != has {
		n.log.Info("egress found out", slog.Bool("egress", has))
	}
	return n.gossip.UpdateSelf(func(m *gossip.Member) { m.Egress = has })
}
