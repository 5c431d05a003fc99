package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

func newCatalog(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Show the catalog of what the farm hosts, and save or replace it",
		Long: `p2pctl catalog shows who keeps the catalog: the hosted repositories with their
tags and manifests, pins and leases. Without a quorum of its voters nothing can
be pushed, and hosted tags cannot be read; pulls of all else go on.

The subcommands that replace the catalog are for when it is lost. All of them
act on the node that is asked, over its unix socket alone.`,
		Args: cobra.NoArgs,
		RunE: work(o.catalog),
	}
	cmd.AddCommand(&cobra.Command{
		Use: "status", Short: "Show who keeps the catalog, and what is wrong with it", Args: cobra.NoArgs, RunE: work(o.catalog),
	}, newBackup(o), newRestore(o), newRecover(o), newBootstrap(o), newLeave(o))
	return cmd
}

func (o *options) catalog(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	s, err := client.Catalog(ctx, o.timeout)
	if err != nil {
		return err
	}
	if err := o.showCatalog(s); err != nil {
		return err
	}
	if s.Degraded {
		return errDegraded
	}
	return nil
}

func (o *options) showCatalog(s adminapi.CatalogStatus) error {
	if o.output == "json" {
		return writeJSON(o.stdout, s)
	}
	_, err := io.WriteString(o.stdout, catalogText(s, colours(o.stdout)))
	return err
}

// catalogText is the catalog for people: what it is, who keeps it, what is wrong, and what to do about that.
func catalogText(s adminapi.CatalogStatus, colour bool) string {
	var out strings.Builder
	out.WriteString(printable(catalogLine(s)) + "\n")
	out.WriteString(printable(fmt.Sprintf("node %s: %s, %d applied", s.Self, s.State, s.Applied)) + "\n")
	if len(s.Voters) > 0 {
		out.WriteString("\n" + voterTable(s).String())
	}
	warnings := catalogWarnings(s)
	if len(warnings)+len(s.Advice) > 0 {
		out.WriteByte('\n')
	}
	for _, w := range warnings {
		out.WriteString(red("warning: "+printable(w), colour) + "\n")
	}
	if s.Advice != "" {
		out.WriteString(wrap("what to do: "+printable(s.Advice), lineWidth))
	}
	return out.String()
}

// lineWidth is where lines of prose are broken.
const lineWidth = 100

func catalogLine(s adminapi.CatalogStatus) string {
	if s.ID == "" {
		return "catalog: none yet"
	}
	leader := "no leader"
	if s.Leader != "" {
		leader = "leader " + s.Leader
	}
	line := fmt.Sprintf("catalog %s: %s, %s, term %d, commit %d", short(s.ID), plural(len(s.Voters), "voter"), leader, s.Term, s.Commit)
	switch {
	case s.Leader == "" || len(s.Voters) == 0:
		return line
	case s.Tolerance == 0:
		return line + ", no voter may fail"
	}
	return fmt.Sprintf("%s, %s may fail", line, plural(s.Tolerance, "voter"))
}

// short is the first digits of a long name.
func short(id string) string { return id[:min(len(id), 8)] }

func voterTable(s adminapi.CatalogStatus) *table {
	t := newTable("HOST", "ZONE", "ROLE", "STATE", ">BEHIND")
	for _, v := range s.Voters {
		id, role, state, behind := v.Node, "voter", "up", ""
		if id == s.Self {
			id += " (asked)"
		}
		if v.Leader {
			role = "leader"
		}
		if !v.Alive {
			state = "not reached"
		}
		if v.Trails >= 0 {
			behind = strconv.FormatInt(v.Trails, 10)
		}
		t.add(id, v.Zone, role, state, behind)
	}
	return t
}

func catalogWarnings(s adminapi.CatalogStatus) []string {
	var out []string
	if s.State != adminapi.CatalogVoter && s.State != adminapi.CatalogNonVoter {
		out = append(out, s.State)
	}
	for _, v := range s.Voters {
		if !v.Alive {
			out = append(out, fmt.Sprintf("voter %s is not reached", v.Node))
		}
	}
	if s.Trouble != "" && !strings.HasPrefix(s.Trouble, s.State) {
		out = append(out, s.Trouble)
	}
	return out
}

// wrap breaks text between words into lines of at most width bytes, if no word is longer.
func wrap(text string, width int) string {
	var out strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case at == 0:
		case at+1+len(word) > width:
			out.WriteByte('\n')
			at = 0
		default:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(word)
		at += len(word)
	}
	return out.String() + "\n"
}
