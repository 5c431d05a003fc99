package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

const (
	retryEvery = 100 * time.Millisecond
	askTimeout = time.Second
)

// retry does something until it works, or ctx is done.
func retry(ctx context.Context, do func() error) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// waitFarm waits until the nodes are one farm, and returns their addresses: a node answers to its IP address, not to a
// name that anyone can give it.
func waitFarm(ctx context.Context, names []string) ([]string, error) {
	addresses := make([]string, len(names))
	for i, name := range names {
		if err := retry(ctx, func() error {
			found, err := net.DefaultResolver.LookupHost(ctx, name)
			if err == nil {
				addresses[i] = found[0]
			}
			return err
		}); err != nil {
			return nil, err
		}
		admin, err := adminapi.NewClient("http://" + net.JoinHostPort(addresses[i], "5080"))
		if err != nil {
			return nil, err
		}
		if err := retry(ctx, func() error { return whole(ctx, admin, len(names)) }); err != nil {
			return nil, fmt.Errorf("the farm of %s: %w", name, err)
		}
	}
	return addresses, nil
}

// whole is nil when the node sees a farm of that many members, who all own a part of one ring.
func whole(ctx context.Context, admin *adminapi.Client, members int) error {
	status, err := admin.Status(ctx, askTimeout)
	if err != nil {
		return err
	}
	owned, partitions := 0, 0
	for _, m := range status.Members {
		if m.Node != nil {
			owned, partitions = owned+m.Node.Ring.OwnedPartitions, m.Node.Ring.Partitions
		}
	}
	if status.Totals.Answered != members || !status.Ring.Agree || owned != partitions {
		return fmt.Errorf("%d members answered, want %d; one ring: %t; %d of %d partitions owned",
			status.Totals.Answered, members, status.Ring.Agree, owned, partitions)
	}
	return nil
}
