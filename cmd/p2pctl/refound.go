package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

func newRecover(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Found the catalog anew on this node from the copies of hosted manifests, for when it is lost",
		Long: `p2pctl catalog recover founds a new catalog on the node that is asked, from what
lies beside the copies of hosted manifests on all members: repositories, tags
and manifests. Pins are lost. So is what only members have that do not answer:
start all that there are before, and see with p2pctl members that they are up.

` + joining + `

A catalog that has a quorum is replaced with --force only.`,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error { return o.recover(ctx, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a catalog that has a quorum")
	return cmd
}

// recover tells by its exit code whether anything is missing.
func (o *options) recover(ctx context.Context, force bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	o.say("founding a new catalog on the node at %s from the copies on all members: pins are lost", client.Address())
	stop := o.progress("recovering", nil)
	r, err := client.Recover(ctx, force)
	stop()
	if err != nil {
		return hint(err, client, "--force replaces it all the same; pins, and what no copy says, are lost then")
	}
	if o.output == "json" {
		err = writeJSON(o.stdout, r)
	} else {
		_, err = o.stdout.Write([]byte(recoveredText(r, colours(o.stdout))))
	}
	if err == nil && len(r.Incomplete)+len(r.Silent) > 0 {
		err = errDegraded
	}
	return err
}

func recoveredText(r adminapi.Recovered, colour bool) string {
	var out strings.Builder
	fmt.Fprintf(&out, "recovered %s and %s from %d of %s\n", plural(r.Manifests, "manifest"), plural(r.Tags, "tag"),
		r.Asked-len(r.Silent), plural(r.Asked, "member"))
	if len(r.Incomplete)+len(r.Silent) > 0 {
		out.WriteByte('\n')
	}
	for _, id := range r.Silent {
		out.WriteString(red("warning: "+printable(id)+" did not answer: what only it has is missing", colour) + "\n")
	}
	for _, name := range r.Incomplete {
		out.WriteString(red("warning: "+printable(name)+" was left out: manifests that it lists were not found", colour) + "\n")
	}
	if len(r.Silent) > 0 {
		out.WriteString("what to do: start the members that did not answer, and recover again with --force\n")
	}
	return out.String()
}

func newBootstrap(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Found the catalog anew on this node with what its own replica has, or empty",
		Long: `p2pctl catalog bootstrap --force founds a new catalog on the node that is asked,
with what its own replica has, or an empty one when it has none. It is the way
out when a majority of the voters, or of the seeds of a new farm, never comes
back: only a person can know that. What only the others had is lost from the
catalog. Do it on one node only, on the voter that is behind least.

` + joining,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error { return o.bootstrap(ctx, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "do it: the voters or seeds that are missing never come back")
	return cmd
}

func (o *options) bootstrap(ctx context.Context, force bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	if !force {
		return o.sayOnly(ctx, client, func(s adminapi.CatalogStatus) string {
			has := "empty: node " + s.Self + " has no replica"
			if s.Applied > 0 {
				has = fmt.Sprintf("with the first %d commands, which is what node %s has; what came after them is lost", s.Applied, s.Self)
			}
			return "this would found a new catalog, " + has + ". If the other voters or seeds never come back, say --force"
		})
	}
	o.say("founding a new catalog on the node at %s with what its own replica has", client.Address())
	return o.changed(ctx, client, "founding", client.Bootstrap, "there is nothing to do")
}

func newLeave(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Give up this node's replica of the catalog, so that it joins the one that others keep",
		Long: `p2pctl catalog leave gives up the replica that the node that is asked keeps, with
all that only it has. It is for a node that keeps to a catalog that was replaced,
or that must not become one with that of a farm which was joined. The node then
looks for the catalog that the other nodes keep.

A replica of a catalog that is in use, or may be again, is given up with --force
only.`,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error { return o.leave(ctx, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "give up a replica of a catalog that is in use")
	return cmd
}

func (o *options) leave(ctx context.Context, force bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	s, err := client.Catalog(ctx, o.timeout)
	if err != nil {
		return err
	}
	inUse := s.State == adminapi.CatalogVoter || s.State == adminapi.CatalogNonVoter || s.State == adminapi.CatalogNoQuorum
	if inUse && !force {
		return &ending{exitUsage, fmt.Errorf("node %s is %s of catalog %s, which has %s: its replica would be lost, and with the "+
			"last one all that the farm hosts. If that is meant, say --force", s.Self, s.State, short(s.ID), plural(len(s.Voters), "voter"))}
	}
	return o.changed(ctx, client, "leaving", client.Leave, "")
}

// sayOnly says what a command would do, which is wrong usage.
func (o *options) sayOnly(ctx context.Context, client *adminapi.Client, what func(adminapi.CatalogStatus) string) error {
	s, err := client.Catalog(ctx, o.timeout)
	if err != nil {
		return err
	}
	return &ending{exitUsage, errors.New(what(s))}
}

// changed does something to the catalog and shows what became of it.
func (o *options) changed(ctx context.Context, client *adminapi.Client, what string,
	do func(context.Context) (adminapi.CatalogStatus, error), quorum string,
) error {
	stop := o.progress(what, nil)
	s, err := do(ctx)
	stop()
	if err != nil {
		return hint(err, client, quorum)
	}
	return o.showCatalog(s)
}

// hint adds to a refusal what can be done about it: about a catalog that has a quorum what quorum says.
func hint(err error, client *adminapi.Client, quorum string) error {
	answer, ok := errors.AsType[*adminapi.AnswerError](err)
	switch {
	case !ok:
		return err
	case answer.Status == http.StatusConflict && quorum != "":
		return fmt.Errorf("%w: %s", err, quorum)
	case answer.Status == http.StatusForbidden && !strings.HasPrefix(client.Address(), "unix:"):
		return fmt.Errorf("%w: name it with --socket, as a user who may open it, such as root", err)
	}
	return err
}
