package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

func newMembers(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the members that the node knows, without asking them",
		Args:  cobra.NoArgs,
		RunE:  work(o.members),
	}
}

func (o *options) members(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	list, err := client.Members(ctx, o.timeout)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return writeJSON(o.stdout, list)
	}
	t := newTable("HOST", "ZONE", "STATE", "VERSION", "PEER", "GOSSIP", "BOOT")
	for _, m := range list.Members {
		id := m.ID
		if id == list.Self {
			id += " (asked)"
		}
		t.add(id, m.Zone, m.State, m.Version, m.Addresses.Peer, m.Addresses.Gossip, m.BootID)
	}
	_, err = io.WriteString(o.stdout, t.String())
	return err
}
