package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/version"
)

// versions is the result of the version command.
type versions struct {
	SchemaVersion int               `json:"schema_version"`
	Client        adminapi.Version  `json:"client"`
	Node          *adminapi.Version `json:"node"` // null when none answers, or when it was not asked
}

func newVersion(o *options) *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the release of this program and of the node",
		Args:  cobra.NoArgs,
		RunE:  work(func(ctx context.Context) error { return o.version(ctx, clientOnly) }),
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "show this program only, ask no node")
	return cmd
}

// version shows what it knows even when no node answers.
func (o *options) version(ctx context.Context, clientOnly bool) error {
	v := versions{SchemaVersion: adminapi.SchemaVersion, Client: adminapi.VersionOf(version.String())}
	var failed error
	if !clientOnly {
		v.Node, failed = o.nodeVersion(ctx)
	}
	if err := o.showVersions(v); err != nil {
		return err
	}
	return failed
}

func (o *options) nodeVersion(ctx context.Context) (*adminapi.Version, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	v, err := client.Version(ctx, o.timeout)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func (o *options) showVersions(v versions) error {
	if o.output == "json" {
		return writeJSON(o.stdout, v)
	}
	_, err := fmt.Fprintf(o.stdout, "p2pctl %s\n", versionLine(v.Client))
	if v.Node != nil && err == nil {
		_, err = fmt.Fprintf(o.stdout, "p2pd   %s\n", versionLine(*v.Node))
	}
	return err
}

func versionLine(v adminapi.Version) string {
	return printable(fmt.Sprintf("%s, peer protocol %d, %s", v.Version, v.Protocol, v.Go))
}
