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

func newGC(o *options) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove hosted blobs that no manifest needs",
		Long: `p2pctl gc removes, on all members, the blobs of the farm's own repositories that
no manifest needs. It may run beside pushes: what was pushed or used less than
hosted.gc_grace ago stays. Nodes do the same by themselves every hosted.gc_interval.
Cached blobs of upstreams are not touched.`,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error { return o.gc(ctx, dryRun) }),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be removed")
	return cmd
}

func (o *options) gc(ctx context.Context, dryRun bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	stop := o.progress("collecting", nil)
	c, err := client.Collect(ctx, dryRun)
	stop()
	if err != nil {
		return hint(err, client, "")
	}
	if o.output == "json" {
		err = writeJSON(o.stdout, c)
	} else {
		_, err = io.WriteString(o.stdout, collectedText(c, colours(o.stdout)))
	}
	for _, n := range c.Nodes {
		if err == nil && n.Error != "" {
			err = errDegraded
		}
	}
	return err
}

// maxShown is how many links a table shows.
const maxShown = 100

// collectedText says how much was removed of each member and in all, and what.
func collectedText(c adminapi.Collected, colour bool) string {
	var out strings.Builder
	removed := "removed"
	if c.DryRun {
		removed = "would be removed"
	}
	fmt.Fprintf(&out, "%s: %s of blobs, %s on disk; %s of repositories that no manifest needs\n",
		removed, count(c.Blobs, "copy", "copies"), size(c.Bytes), plural(c.Unused, "link"))
	out.WriteString("\n" + collectedTable(c).String())
	if len(c.Links) > 0 {
		out.WriteString("\n" + linkTable(c).String())
	}
	if more := c.Unused - min(len(c.Links), maxShown); more > 0 && len(c.Links) > 0 {
		fmt.Fprintf(&out, "and %d more\n", more)
	}
	before := "\n"
	for _, n := range c.Nodes {
		if n.Error != "" {
			out.WriteString(before + red(printable(fmt.Sprintf("warning: %s: %s", n.ID, n.Error)), colour) + "\n")
			before = ""
		}
	}
	return out.String()
}

func collectedTable(c adminapi.Collected) *table {
	t := newTable("HOST", ">BLOBS", ">BYTES", ">TOO YOUNG", ">KEPT")
	var sum adminapi.NodeCollected
	for _, n := range c.Nodes {
		t.add(n.ID, strconv.Itoa(n.Blobs), size(n.Bytes), strconv.Itoa(n.Young), strconv.Itoa(n.Kept))
		sum.Young += n.Young
		sum.Kept += n.Kept
	}
	if len(c.Nodes) > 1 {
		t.add("total", strconv.Itoa(c.Blobs), size(c.Bytes), strconv.Itoa(sum.Young), strconv.Itoa(sum.Kept))
	}
	return t
}

func linkTable(c adminapi.Collected) *table {
	t := newTable("REPOSITORY", "DIGEST", ">BYTES")
	for _, l := range c.Links[:min(len(c.Links), maxShown)] {
		t.add(l.Repository, l.Digest, size(l.Bytes))
	}
	return t
}
