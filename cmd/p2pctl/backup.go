package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

func newBackup(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Save the whole catalog to FILE, or - for stdout",
		Long: `p2pctl catalog backup saves the whole catalog: hosted repositories with their
tags and manifests, and pins. The blobs themselves are not part of it.

A backup has the names of all that is hosted and, sealed, the farm's secrets: over
HTTP it takes the admin token, as a change does.

FILE is written beside its place and put there only when it is whole, readable
by its owner alone. What goes to stdout is whole if the exit code is 0.`,
		Args: cobra.ExactArgs(1),
		RunE: workOn(o.backup),
	}
}

// saved is the result of a backup to a file.
type saved struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Bytes         int64  `json:"bytes"`
}

func (o *options) backup(ctx context.Context, file string) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = client.Backup(ctx, o.stdout)
		return hint(err, client, "")
	}
	n, err := o.backupTo(ctx, client, file)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return writeJSON(o.stdout, saved{adminapi.SchemaVersion, file, n})
	}
	_, err = fmt.Fprintf(o.stdout, "%s saved to %s\n", size(n), printable(file))
	return err
}

// backupTo puts the backup into its place when it is whole and on disk.
func (o *options) backupTo(ctx context.Context, client *adminapi.Client, file string) (int64, error) {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return 0, fmt.Errorf("save to %s: not a file", file)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("save: %w", err)
	}
	pending, err := renameio.NewPendingFile(file, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return 0, fmt.Errorf("save to %s: %w", file, err)
	}
	defer func() { _ = pending.Cleanup() }() // nothing is left when the backup failed
	buffer := bufio.NewWriterSize(pending, 1<<20)
	out := &counted{w: buffer}
	defer o.progress("saving", out.n.Load)()
	n, err := client.Backup(ctx, out)
	if err != nil {
		return 0, hint(err, client, "")
	}
	if err = buffer.Flush(); err == nil {
		err = pending.CloseAtomicallyReplace() // synced first
	}
	if err != nil {
		return 0, fmt.Errorf("save to %s: %w", file, err)
	}
	return n, nil
}

func newRestore(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Found the catalog anew on this node from a backup, for when it is lost",
		Long: `p2pctl catalog restore founds a new catalog on the node that is asked, with what
FILE (- for stdin) has. What was pushed, tagged, deleted or pinned since the
backup is lost from the catalog; its blobs stay on disk until they are collected.
p2pctl catalog recover finds later pushes as well, but no pins.

` + joining + `

A catalog that has a quorum is replaced with --force only.`,
		Args: cobra.ExactArgs(1),
		RunE: workOn(func(ctx context.Context, file string) error { return o.restore(ctx, file, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a catalog that has a quorum")
	return cmd
}

// joining is what all ways to a new catalog have in common.
const joining = `Other nodes join the new catalog by themselves, but those that still keep the
old one keep to it: p2pctl catalog leave on each of them makes them join.`

func (o *options) restore(ctx context.Context, file string, force bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	var in io.Reader = os.Stdin
	length := int64(-1)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return errors.Join(fmt.Errorf("restore from %s: not a file", file), err)
		}
		in, length = f, info.Size()
	}
	o.say("founding a new catalog on the node at %s from %s: what came after the backup is lost from it", client.Address(), file)
	stop := o.progress("restoring", nil)
	s, err := client.Restore(ctx, in, length, force)
	stop()
	if err != nil {
		return hint(err, client, "--force replaces it all the same; what it has and the backup has not is lost then")
	}
	return o.showCatalog(s)
}
