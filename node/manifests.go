package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
)

// Manifest serves the registry door.
func (n *Node) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (registryapi.Manifest, error) {
	d, size, mediaType, stale := ref.Digest, int64(-1), "", false
	if ref.Tag != "" {
		r, err := n.resolve(ctx, repo, ref.Tag, accept)
		if err != nil {
			return registryapi.Manifest{}, err
		}
		d, size, mediaType, stale = r.Descriptor.Digest, r.Descriptor.Size, r.Descriptor.MediaType, r.stale
	}
	if headOnly && mediaType != "" && size >= 0 {
		return registryapi.Manifest{MediaType: mediaType, Digest: d, Size: size, Stale: stale}, nil
	}
	mediaType, raw, err := n.manifest(ctx, repo, d)
	if err != nil {
		return registryapi.Manifest{}, err
	}
	if !headOnly {
		n.prefetch.arm(repo, d, mediaType, raw)
	}
	return registryapi.Manifest{MediaType: mediaType, Digest: d, Size: int64(len(raw)), Raw: raw, Stale: stale}, nil
}

// manifest finds a manifest by its digest: here, at its owner, which asks the upstream once for the whole farm, or at
// the upstream.
func (n *Node) manifest(ctx context.Context, repo oci.Repository, d oci.Digest) (mediaType string, raw []byte, err error) {
	if n.links.has(repo, d) {
		if mediaType, raw, err := n.store.Manifest(d); err == nil {
			return mediaType, raw, nil
		}
	}
	v, err := n.flights.do(ctx, "manifest "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		if err := n.awaitFarm(ctx); err != nil {
			return nil, err
		}
		q := transfer.Question{Kind: transfer.Manifest, Repository: repo, Reference: d.String()}
		a, self, err := n.engine.Ask(ctx, d.String(), q)
		if self || n.mayFallBack(err) {
			return n.manifestHere(ctx, repo, d)
		}
		if err != nil {
			return nil, err
		}
		if err := n.takeManifest(ctx, repo, d, a); err != nil {
			n.log.Error("a peer gave another manifest", slog.String("digest", d.String()), slog.Any("error", err))
			return n.manifestHere(ctx, repo, d)
		}
		return a, nil
	})
	if err != nil {
		return "", nil, err
	}
	a := v.(transfer.Answer)
	return a.MediaType, a.Body, nil
}

// takeManifest keeps a manifest that a peer gave, if it is the right one.
func (n *Node) takeManifest(ctx context.Context, repo oci.Repository, d oci.Digest, a transfer.Answer) error {
	if oci.FromBytes(d.Algorithm(), a.Body) != d {
		return &oci.MismatchError{Digest: d, Piece: -1}
	}
	n.keepManifest(ctx, repo, d, a.MediaType, a.Body)
	return nil
}

// keepManifest stores a manifest whose digest holds and which repo has confirmed. A disk that does not take it is no
// reason not to serve it.
func (n *Node) keepManifest(ctx context.Context, repo oci.Repository, d oci.Digest, mediaType string, raw []byte) {
	if err := n.store.Put(ctx, d, raw, blobstore.Origin{Repository: repo, MediaType: mediaType}); err != nil {
		n.log.Warn("manifest not stored", slog.String("digest", d.String()), slog.Any("error", err))
	}
	n.links.note(repo, d, int64(len(raw)))
}

// manifestHere gets a manifest that this node owns, from the upstream if need be: once, however many ask. A manifest
// that came through another repository is confirmed by a HEAD, which upstreams do not count.
func (n *Node) manifestHere(ctx context.Context, repo oci.Repository, d oci.Digest) (transfer.Answer, error) {
	v, err := n.flights.do(ctx, "upstream manifest "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		client, err := n.upstreams.of(repo)
		if err != nil {
			return nil, err
		}
		if mediaType, raw, err := n.store.Manifest(d); err == nil {
			a := transfer.Answer{Digest: d, MediaType: mediaType, Size: int64(len(raw)), Body: raw}
			if n.links.has(repo, d) {
				return a, nil
			}
			if _, _, err := client.Resolve(ctx, repo.Path, d.String(), oci.ManifestTypes()); err != nil {
				return nil, err
			}
			n.links.note(repo, d, a.Size)
			return a, nil
		}
		mediaType, raw, _, err := client.Manifest(ctx, repo.Path, d.String(), oci.ManifestTypes())
		if err != nil {
			return nil, err
		}
		n.keepManifest(ctx, repo, d, mediaType, raw)
		return transfer.Answer{Digest: d, MediaType: mediaType, Size: int64(len(raw)), Body: raw}, nil
	})
	if err != nil {
		return transfer.Answer{}, err
	}
	return v.(transfer.Answer), nil
}

// Document answers peers that take this node for the owner of a document.
func (n *Node) Document(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	if _, err := n.upstreams.of(q.Repository); err != nil {
		return transfer.Answer{}, err
	}
	switch q.Kind {
	case transfer.Resolve:
		return n.answerResolve(ctx, q)
	case transfer.Tags:
		return n.tagsHere(ctx, q)
	}
	d, err := oci.ParseDigest(q.Reference)
	if err != nil {
		return transfer.Answer{}, errors.Join(oci.ErrNotFound, err)
	}
	switch q.Kind {
	case transfer.Manifest:
		return n.manifestHere(ctx, q.Repository, d)
	case transfer.Confirm:
		size, err := n.confirmHere(ctx, q.Repository, d)
		return transfer.Answer{Digest: d, Size: size}, err
	case transfer.Referrers:
		return n.referrersHere(ctx, q, d)
	}
	return transfer.Answer{}, fmt.Errorf("%w: document kind %d", oci.ErrUnsupported, q.Kind)
}
