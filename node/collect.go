package node

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/copies"
	"github.com/pullonce/pullonce/oci"
)

// Collect implements adminapi.Catalog: first the links that no manifest needs are cut, then each member removes what no
// repository links any more. Both leave alone what came within the grace time, so that a push that is under way finds
// what it has sent.
func (o operators) Collect(ctx context.Context, dryRun bool) (adminapi.Collected, error) {
	n := o.n
	out := adminapi.Collected{DryRun: dryRun}
	unused, err := n.unusedLinks(ctx)
	if err != nil {
		return out, forOperator(err)
	}
	for _, l := range unused {
		if !dryRun {
			cut, err := n.cut(ctx, l)
			if err != nil {
				return out, forOperator(err)
			}
			if !cut {
				continue
			}
		}
		out.Unused++
		out.Links = append(out.Links, adminapi.UnusedLink{
			Repository: n.cfg.Hosted.Prefix + "/" + l.Repository, Digest: l.Digest.String(), Bytes: l.Size,
		})
	}
	var without []oci.Digest
	if dryRun {
		without = orphans(unused)
	}
	by, err := n.copies.CollectFarm(ctx, dryRun, without...)
	for id, c := range by {
		out.Nodes = append(out.Nodes, adminapi.NodeCollected{
			ID: id, Blobs: int(c.Blobs), Bytes: c.Bytes, Young: int(c.Young), Kept: int(c.Kept),
		})
	}
	for _, e := range copies.NodeErrors(err) {
		out.Nodes = append(out.Nodes, adminapi.NodeCollected{ID: e.Node, Error: e.Err.Error()})
	}
	slices.SortFunc(out.Nodes, func(a, b adminapi.NodeCollected) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// unusedLinks are all links that no manifest of their repository needs, and that are older than the grace time.
func (n *Node) unusedLinks(ctx context.Context) ([]catalog.UnusedLink, error) {
	before := time.Now().Add(-n.cfg.Hosted.Grace)
	var all []catalog.UnusedLink
	for after := (&catalog.LinkCursor{}); after != nil; {
		page, next, err := n.catalog.Unused(ctx, before, *after, catalogPage)
		if err != nil {
			return nil, err
		}
		all, after = append(all, page...), next
	}
	return all, nil
}

// cut takes a link away, unless a manifest needs it by now or a client has asked for it.
func (n *Node) cut(ctx context.Context, l catalog.UnusedLink) (bool, error) {
	r, err := n.catalog.Apply(ctx, catalog.Command{Do: catalog.UnlinkBlob{
		Repository: l.Repository, Digest: l.Digest, IfUnused: true, IfIndex: l.Index,
	}})
	switch {
	case err != nil:
		return false, err
	case r.Err == nil:
		return true, nil
	case errors.Is(r.Err, catalog.ErrInUse), errors.Is(r.Err, catalog.ErrChanged), errors.Is(r.Err, oci.ErrNotFound):
		return false, nil
	}
	return false, r.Err
}

// orphans are the blobs that nothing names once these links are cut.
func orphans(unused []catalog.UnusedLink) []oci.Digest {
	left := make(map[oci.Digest]int)
	var out []oci.Digest
	for _, l := range unused {
		if _, seen := left[l.Digest]; !seen {
			left[l.Digest] = l.Names
		}
		if left[l.Digest]--; left[l.Digest] == 0 {
			out = append(out, l.Digest)
		}
	}
	return out
}

// collectRegularly collects now and then, on the node that leads the catalog.
func (n *Node) collectRegularly(ctx context.Context) error {
	if n.cfg.Hosted.GCEvery == 0 {
		return nil
	}
	tick := time.NewTicker(n.cfg.Hosted.GCEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.catalog.Status().Leader != n.id || n.collectionRests(ctx) {
			continue
		}
		c, err := operators{n}.Collect(ctx, false)
		if err != nil {
			n.log.Warn("collection of unused hosted blobs ended early", slog.Any("error", err))
			continue
		}
		n.log.Info("unused hosted blobs collected", slog.Int("links", c.Unused), slog.Int("nodes", len(c.Nodes)))
	}
}

const (
	// collectAfter is the farm's setting that says from when on it collects by itself.
	collectAfter = "collect_after"
	// forcedRest is how long it does not after its catalog was founded by force. What that catalog lacks is kept until
	// then, so that a person who finds something missing can found it anew, from a better backup or from the copies.
	forcedRest = 7 * 24 * time.Hour
)

// restCollection has the farm collect nothing by itself for a while.
func (n *Node) restCollection(ctx context.Context) error {
	until := time.Now().Add(forcedRest).UTC().Format(time.RFC3339)
	r, err := n.catalog.Apply(ctx, catalog.Command{Do: catalog.SetSetting{Key: collectAfter, Value: []byte(until)}})
	return cmp.Or(err, r.Err)
}

// collectionRests tells whether the farm collects nothing by itself now, or whether that cannot be found out.
func (n *Node) collectionRests(ctx context.Context) bool {
	text, err := n.catalog.Setting(ctx, collectAfter, false)
	if err != nil || len(text) == 0 {
		return err != nil
	}
	after, err := time.Parse(time.RFC3339, string(text))
	return err == nil && time.Now().Before(after)
}
