package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
)

// hostedManifest resolves a reference in a hosted repository. A tag is what the catalog says now, or an error: a digest
// means the same for ever, so what was known of it serves while the catalog cannot be asked.
func (n *Node) hostedManifest(ctx context.Context, repo oci.Repository, ref oci.Reference, headOnly bool) (registryapi.Manifest, error) {
	d, mediaType := ref.Digest, ""
	if ref.Tag != "" {
		tag, ok, err := n.catalog.Tag(ctx, repo.Path, ref.Tag, false)
		if err != nil {
			return registryapi.Manifest{}, fromCatalog(err)
		}
		if !ok {
			return registryapi.Manifest{}, fmt.Errorf("tag %s of %s: %w", ref.Tag, repo, oci.ErrNotFound)
		}
		d = tag.Digest
	} else {
		var err error
		if mediaType, err = n.hostedType(ctx, repo, d); err != nil {
			return registryapi.Manifest{}, err
		}
	}
	kept, raw, err := n.hostedBytes(ctx, repo, d)
	if err != nil {
		return registryapi.Manifest{}, err
	}
	mediaType = cmp.Or(mediaType, kept)
	if !headOnly {
		n.prefetch.arm(repo, d, mediaType, raw)
	}
	return registryapi.Manifest{MediaType: mediaType, Digest: d, Size: int64(len(raw)), Raw: raw}, nil
}

// hostedType is the media type of a manifest that repo has, "" when that is known only to who keeps its bytes.
func (n *Node) hostedType(ctx context.Context, repo oci.Repository, d oci.Digest) (string, error) {
	m, _, err := n.catalog.Manifest(ctx, repo.Path, d, false)
	if errors.Is(err, catalog.ErrNoQuorum) {
		lost := err
		if m, _, err = n.catalog.Manifest(ctx, repo.Path, d, true); err != nil {
			if _, known := n.lastKnownLink(ctx, repo, d); known {
				return "", nil
			}
			err = lost
		}
	}
	if errors.Is(err, oci.ErrNotFound) {
		n.links.forget(repo, d) // nor is it served when the catalog cannot be asked
	}
	if err != nil {
		return "", fromCatalog(err)
	}
	return m.Descriptor.MediaType, nil
}

// hostedBytes finds a manifest's bytes: here, at its owner, or at any node that has it.
func (n *Node) hostedBytes(ctx context.Context, repo oci.Repository, d oci.Digest) (mediaType string, raw []byte, err error) {
	if a, ok := n.heldManifest(repo, d); ok {
		return a.MediaType, a.Body, nil
	}
	return n.manifestOfOwner(ctx, repo, d, func(ctx context.Context) (transfer.Answer, error) {
		q := transfer.Question{Kind: transfer.Manifest, Repository: repo, Reference: d.String()}
		return n.hostedManifestHere(ctx, q, d)
	})
}

// hostedManifestHere answers for a hosted manifest that this node owns, or that no other can be asked for. Whether the
// asker may have it, the asker has found out: the digest says that it is right. That no node has it is no proof that
// there is none.
func (n *Node) hostedManifestHere(ctx context.Context, q transfer.Question, d oci.Digest) (transfer.Answer, error) {
	if a, ok := n.heldManifest(q.Repository, d); ok {
		return a, nil
	}
	if a, ok := n.engine.FromHolder(ctx, d, q, true); ok {
		return a, nil
	}
	return transfer.Answer{}, fmt.Errorf("no node that can be reached has hosted manifest %s: %w", d, oci.ErrUnavailable)
}

// hostedBlob opens a blob that a hosted repository links.
func (n *Node) hostedBlob(ctx context.Context, repo oci.Repository, d oci.Digest, ranged bool) (registryapi.Blob, error) {
	l, err := n.hostedLink(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	n.links.note(repo, d, l.Size)
	if !ranged {
		n.prefetch.fire(repo, d)
	}
	if stored, err := n.storedBlob(ctx, repo, d); err == nil || !errors.Is(err, oci.ErrNotFound) {
		return stored, err
	}
	if err := n.awaitFarm(ctx); err != nil {
		return nil, err
	}
	h, err := n.engine.Get(transfer.Want{Repository: repo, Digest: d, Size: l.Size})
	if err != nil {
		return nil, err
	}
	if !ranged {
		if err := h.Ready(ctx, 0); err != nil {
			_ = h.Close()
			return nil, err
		}
	}
	n.prefetch.given(d)
	return &arriving{n: n, handle: h, repo: repo, digest: d, size: l.Size}, nil
}

// hostedLink is a blob as a hosted repository links it. While the catalog cannot be asked, what a replica, this node or
// another one last knew serves.
func (n *Node) hostedLink(ctx context.Context, repo oci.Repository, d oci.Digest) (catalog.Link, error) {
	l, ok, err := n.catalog.Link(ctx, repo.Path, d, false)
	if errors.Is(err, catalog.ErrNoQuorum) {
		lost := err
		if l, ok, err = n.catalog.Link(ctx, repo.Path, d, true); err != nil || !ok {
			if size, known := n.lastKnownLink(ctx, repo, d); known && size >= 0 {
				return catalog.Link{Size: size, Used: true}, nil
			}
			err = lost // a replica that lags does not know it yet
		}
	}
	if err != nil {
		return catalog.Link{}, fromCatalog(err)
	}
	if !ok {
		n.links.forget(repo, d) // nor is it served when the catalog cannot be asked
		return catalog.Link{}, fmt.Errorf("blob %s in %s: %w", d, repo, oci.ErrNotFound)
	}
	return l, nil
}

// lastKnownLink is what this node, or another one that can be reached, last knew of a link: its size, -1 when it is not
// known.
func (n *Node) lastKnownLink(ctx context.Context, repo oci.Repository, d oci.Digest) (size int64, known bool) {
	if n.links.has(repo, d) {
		return n.linkedSize(repo, d), true
	}
	return n.confirmedElsewhere(ctx, repo, d)
}

// hostedStat is the size of a blob that a hosted repository links. A client that asks is about to push a manifest that
// lists it and will not send it again, so a link that no manifest needs yet is made anew: no collection takes it away.
func (n *Node) hostedStat(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	l, err := n.hostedLink(ctx, repo, d)
	if err != nil || l.Used || time.Since(l.Since) < n.cfg.Hosted.Grace/2 {
		return l.Size, err
	}
	if err := n.copies.Hold(ctx, d); err != nil {
		return 0, fmt.Errorf("blob %s in %s is being given up: %w", d, repo, oci.ErrNotFound)
	}
	_, err = n.hosting.apply(ctx, catalog.LinkBlob{Repository: repo.Path, Digest: d, Size: l.Size})
	if err != nil {
		return 0, err
	}
	return l.Size, nil
}

// hostedDocument answers a peer that takes this node for the owner of a hosted manifest, or for one that has it.
func (n *Node) hostedDocument(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	if q.Kind != transfer.Manifest {
		return transfer.Answer{}, fmt.Errorf("%w: document kind %d of a hosted repository", oci.ErrUnsupported, q.Kind)
	}
	d, err := documentDigest(q)
	if err != nil {
		return transfer.Answer{}, err
	}
	return n.hostedManifestHere(ctx, q, d)
}
