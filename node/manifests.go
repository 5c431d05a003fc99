package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// Manifest serves the registry door.
func (n *Node) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (registryapi.Manifest, error) {
	if n.hosts(repo) {
		return n.hostedManifest(ctx, repo, ref, headOnly)
	}
	since := time.Now()
	m, err := forCaller(ctx, n, repo, probe{reference: ref.String()}, func() (registryapi.Manifest, error) {
		return n.mirrored(ctx, repo, ref, accept, headOnly)
	}, keep)
	if ref.Tag == "" {
		err = evenly(ctx, since, err)
	}
	return m, err
}

// mirrored is a manifest of an upstream, for a client that may read the repository.
func (n *Node) mirrored(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (registryapi.Manifest, error) {
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
	if a, ok := n.heldManifest(repo, d); ok && a.Linked {
		return a.MediaType, a.Body, nil
	}
	return n.manifestOfOwner(ctx, repo, d, func(ctx context.Context) (transfer.Answer, error) {
		return n.manifestHere(ctx, repo, d)
	})
}

// manifestOfOwner asks the node that owns a manifest for it, once however many ask here, and keeps it; here answers when
// that is this node.
func (n *Node) manifestOfOwner(ctx context.Context, repo oci.Repository, d oci.Digest, here func(context.Context) (transfer.Answer, error)) (mediaType string, raw []byte, err error) {
	v, err := n.flights.do(ctx, "manifest "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		if err := n.awaitFarm(ctx); err != nil {
			return nil, err
		}
		q := transfer.Question{Kind: transfer.Manifest, Repository: repo, Reference: d.String()}
		a, err := n.ask(ctx, d.String(), q, here)
		if err != nil {
			return nil, err
		}
		n.keepManifest(repo, d, a.MediaType, a.Body)
		return a, nil
	})
	if err != nil {
		return "", nil, err
	}
	a := v.(transfer.Answer)
	return a.MediaType, a.Body, nil
}

// heldManifest is a manifest that is here, through whatever repository it came; Linked says whether repo has it.
func (n *Node) heldManifest(repo oci.Repository, d oci.Digest) (transfer.Answer, bool) {
	mediaType, raw, err := n.store.Manifest(d)
	if err != nil {
		return transfer.Answer{}, false
	}
	return transfer.Answer{
		Digest: d, MediaType: mediaType, Size: int64(len(raw)), Body: raw, Linked: n.links.has(repo, d),
	}, true
}

// keepManifest stores a manifest whose digest holds and which repo has confirmed, and lets its owner know. A disk that
// does not take it is no reason not to serve it.
func (n *Node) keepManifest(repo oci.Repository, d oci.Digest, mediaType string, raw []byte) {
	if _, err := n.store.Stat(d); err == nil && n.links.has(repo, d) {
		return
	}
	if err := n.store.PutManifest(d, mediaType, raw, repo); err != nil { // memory has it for a while
		n.log.Warn("manifest not stored", slog.String("digest", d.String()), slog.Any("error", err))
	} else {
		n.engine.Stored(d)
	}
	n.links.note(repo, d, int64(len(raw)))
}

// manifestHere gets a manifest that this node owns: from here, from a node that holds it, or from the upstream; once,
// however many ask.
func (n *Node) manifestHere(ctx context.Context, repo oci.Repository, d oci.Digest) (transfer.Answer, error) {
	v, err := n.flights.do(ctx, "upstream manifest "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		a, err := n.findManifest(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		n.keepManifest(repo, d, a.MediaType, a.Body)
		return a, nil
	})
	if err != nil {
		return transfer.Answer{}, err
	}
	return v.(transfer.Answer), nil
}

// findManifest asks the upstream only for what no node is known to have. A manifest that came through another repository
// is confirmed by a HEAD, which upstreams do not count. When the upstream cannot be asked all nodes are, for the bytes
// and for what repo has confirmed to them.
func (n *Node) findManifest(ctx context.Context, repo oci.Repository, d oci.Digest) (transfer.Answer, error) {
	q := transfer.Question{Kind: transfer.Manifest, Repository: repo, Reference: d.String()}
	a, found := n.heldManifest(repo, d)
	if !found {
		a, found = n.engine.FromHolder(ctx, d, q, false)
	}
	if found && a.Linked {
		n.standings.learn(repo, a, nil)
		return a, nil
	}
	err := n.upstreams.askAs(ctx, repo, func(who name, c *upstream.Client) (bool, error) {
		if found {
			_, _, err := c.Resolve(ctx, repo.Path, d.String(), oci.ManifestTypes())
			return true, err
		}
		fresh, err := n.countedManifest(ctx, who, c, repo, d)
		if err == nil {
			a = fresh
		}
		return true, err
	})
	if err == nil || !cannotAsk(err) {
		return a, err
	}
	if !found {
		a, found = n.engine.FromHolder(ctx, d, q, true)
	}
	if found && !a.Linked {
		_, a.Linked = n.confirmedElsewhere(ctx, repo, d)
	}
	if found && a.Linked {
		return a, nil
	}
	return transfer.Answer{}, err
}

// countedManifest gets a manifest from the upstream, which counts that against a limit. What everybody may read is got in
// the farm's own name, which has more left as a rule, once a HEAD has shown that everybody may: those are not counted.
func (n *Node) countedManifest(ctx context.Context, who name, c *upstream.Client, repo oci.Repository, d oci.Digest) (transfer.Answer, error) {
	if who.anonymous && n.upstreams.farmMayRead(repo) {
		if _, _, err := c.Resolve(ctx, repo.Path, d.String(), oci.ManifestTypes()); err != nil {
			return transfer.Answer{}, err
		}
		c = c.As(upstream.Farm())
	}
	a := transfer.Answer{Digest: d}
	var err error
	a.MediaType, a.Body, _, err = c.Manifest(ctx, repo.Path, d.String(), oci.ManifestTypes())
	a.Size = int64(len(a.Body))
	return a, err
}
