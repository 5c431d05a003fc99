package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/copies"
)

// CatalogStatus implements adminapi.Catalog.
func (o operators) CatalogStatus(context.Context) (adminapi.CatalogStatus, error) {
	s := o.n.catalog.Status()
	out := adminapi.CatalogStatus{
		Self: o.n.id, State: string(s.State), ID: s.Catalog, Leader: s.Leader, Commit: s.Commit, Applied: s.Applied,
		Term: s.Term, Tolerance: s.Tolerance, MissingSeeds: o.missingSeeds(), Trouble: s.Trouble,
	}
	for _, v := range s.Voters {
		out.Voters = append(out.Voters, adminapi.Voter{
			Node: v.Node, Replica: v.Replica, Zone: v.Zone, Leader: v.Leader, Alive: v.Alive, Trails: v.Trails,
		})
	}
	return out, nil
}

// missingSeeds are the seeds of this node's configuration that lead to no member that is there.
func (o operators) missingSeeds() []string {
	missing := slices.Clone(o.n.cfg.Gossip.Seeds)
	for _, m := range o.n.gossip.Members() {
		if !m.Alive() {
			continue
		}
		seats := o.n.gossip.Seats(m.ID)
		missing = slices.DeleteFunc(missing, func(seed string) bool { return slices.Contains(seats, seed) })
	}
	return missing
}

// catalogPart is the catalog in this node's own status.
func (n *Node) catalogPart() *adminapi.CatalogPart {
	s := n.catalog.Status()
	return &adminapi.CatalogPart{
		State: string(s.State), ID: s.Catalog, Leader: s.Leader, Commit: s.Commit, Applied: s.Applied, Trouble: s.Trouble,
	}
}

// hostedPart is what was pushed to the farm in this node's own status.
func (n *Node) hostedPart() *adminapi.HostedPart {
	s := n.copies.Stats()
	return &adminapi.HostedPart{
		Prefix: n.cfg.Hosted.Prefix, Blobs: s.Hosted, Bytes: s.HostedBytes, BelowCopies: s.BelowCopies,
		Repairing: s.Repairing, Uploads: n.store.Usage().Uploads, Copies: n.cfg.Hosted.Copies,
	}
}

// Backup implements adminapi.Catalog.
func (o operators) Backup(ctx context.Context, w io.Writer) error {
	return forOperator(o.n.catalog.Backup(ctx, w))
}

// Restore implements adminapi.Catalog.
func (o operators) Restore(ctx context.Context, backup io.Reader, force bool) error {
	return forOperator(o.founded(ctx, o.n.catalog.Restore(ctx, backup, force)))
}

// Bootstrap implements adminapi.Catalog.
func (o operators) Bootstrap(ctx context.Context) error {
	return forOperator(o.founded(ctx, o.n.catalog.Bootstrap(ctx)))
}

// founded spares what a catalog lacks that was founded by force, unless err says that it was not.
func (o operators) founded(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	if err := o.n.restCollection(ctx); err != nil {
		o.n.log.Warn("regular collections of unused blobs go on", slog.Any("error", err))
	}
	return nil
}

// Leave implements adminapi.Catalog.
func (o operators) Leave(ctx context.Context) error {
	return forOperator(o.n.catalog.Leave(ctx))
}

// Recover implements adminapi.Catalog. A note that cannot be read is left out, as if its copy were not there.
func (o operators) Recover(ctx context.Context, force bool) (adminapi.Recovered, error) {
	gathered, err := o.n.copies.CopiesOf(ctx)
	silent := copies.NodeErrors(err)
	var found []catalog.Copy
	for _, c := range gathered {
		one, err := catalog.DecodeCopies(c.Note)
		if err != nil {
			o.n.log.Warn("note beside a copy not readable", slog.String("digest", c.Digest.String()), slog.Any("error", err))
			continue
		}
		found = append(found, one...)
	}
	r, err := o.n.catalog.Recover(ctx, found, force)
	if err = o.founded(ctx, err); err != nil {
		return adminapi.Recovered{}, forOperator(err)
	}
	out := adminapi.Recovered{Manifests: r.Manifests, Tags: r.Tags, Asked: len(o.n.directory.Others()) + 1}
	for _, e := range silent {
		out.Silent = append(out.Silent, e.Node)
	}
	for _, c := range r.Incomplete {
		out.Incomplete = append(out.Incomplete, c.Repository+"@"+c.Descriptor.Digest.String())
	}
	return out, nil
}

// forOperator says an error of the catalog in the words of the admin API.
func forOperator(err error) error {
	switch {
	case errors.Is(err, catalog.ErrNoQuorum):
		return fmt.Errorf("%w: %w", adminapi.ErrNoQuorum, err)
	case errors.Is(err, catalog.ErrQuorum):
		return fmt.Errorf("%w: %w", adminapi.ErrQuorum, err)
	case errors.Is(err, catalog.ErrSnapshotInvalid):
		return fmt.Errorf("%w: %w", adminapi.ErrBadBackup, err)
	}
	return err
}
