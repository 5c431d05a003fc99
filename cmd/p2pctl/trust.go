package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

func newTrust(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Show what clients on other hosts trust the farm's registries by",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("trust: a command is needed") },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "ca",
		Short: "Write the certificate of the farm's CA to stdout, PEM",
		Long: `p2pctl trust ca writes the certificate of the farm's CA to stdout. Where nodes have
registry.tls.mode: farm, an engine on a host without a node trusts a registry of
the farm by it:

  p2pctl trust ca > /etc/docker/certs.d/registry.lan:5000/ca.crt

Give it to clients for the names of the farm's registries alone, never to a whole
host: any member of the farm can get a certificate for any name.`,
		Args: cobra.NoArgs, RunE: work(o.farmCA),
	})
	return cmd
}

func (o *options) farmCA(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	ca, err := client.FarmCA(ctx, o.timeout)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return writeJSON(o.stdout, ca)
	}
	_, err = io.WriteString(o.stdout, ca.PEM)
	return err
}
