package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// noteLimit bounds telling the holders of a manifest what became of it.
const noteLimit = 10 * time.Second

// PutManifest implements registryapi.Keeper. Beside every copy of the manifest lies what rebuilds its tags, and it lies
// there before the client is answered: as an intent, which names the last index before the write, and which the index
// of the write itself replaces soon after. Who rebuilds a lost catalog takes an intent for the write that it was.
func (h *hosting) PutManifest(ctx context.Context, repo oci.Repository, m registryapi.Pushed) error {
	if err := h.n.awaitFarm(ctx); err != nil {
		return err
	}
	base, err := h.n.catalog.Index(ctx)
	if err != nil {
		return fromCatalog(err)
	}
	put, copied := h.command(repo, m), h.copyOf(repo, m)
	copied.Index = base
	for _, tag := range m.Tags {
		copied.Tags = append(copied.Tags, catalog.CopiedTag{Name: tag, Index: base, Base: true})
	}
	r, err := h.keepAndPut(ctx, repo, m, put, copied)
	if err != nil {
		return err
	}
	h.n.links.note(repo, m.Digest, int64(len(m.Raw)))
	h.n.engine.Stored(m.Digest)
	copied.Index = r.Index
	for i := range copied.Tags {
		copied.Tags[i].Index, copied.Tags[i].Base = r.Index, false
	}
	h.tell(m.Digest, copied)
	return nil
}

// keepAndPut keeps a manifest with its note on as many nodes as was promised, and puts it into the catalog. Of one that
// the repository has already only the note is new, which goes out beside the command.
func (h *hosting) keepAndPut(ctx context.Context, repo oci.Repository, m registryapi.Pushed, put catalog.PutManifest, copied catalog.Copy) (catalog.Result, error) {
	note := catalog.EncodeCopies([]catalog.Copy{copied})
	_, _, err := h.n.catalog.Manifest(ctx, repo.Path, m.Digest, false)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		if err := h.keepBytes(ctx, m, note); err != nil {
			return catalog.Result{}, err
		}
		r, err := h.apply(ctx, put)
		if _, refused := errors.AsType[*registryapi.MissingError](err); refused { // what the note says has not come to pass
			h.tellOf(repo, m.Digest, catalog.Copy{Index: r.Index, Gone: true})
		}
		return r, err
	case err != nil:
		return catalog.Result{}, fromCatalog(err)
	}
	var noted error
	var beside sync.WaitGroup
	beside.Go(func() { noted = h.n.copies.Note(ctx, m.Digest, note, false) })
	r, err := h.apply(ctx, put)
	beside.Wait()
	if err == nil && noted != nil { // copies have gone since it was looked: a collection, after it was deleted
		err = h.keepBytes(ctx, m, note)
	}
	return r, err
}

// keepBytes keeps a manifest with its note here and on as many nodes as was promised.
func (h *hosting) keepBytes(ctx context.Context, m registryapi.Pushed, note []byte) error {
	origin := blobstore.Origin{MediaType: m.MediaType, Hosted: true, Note: note}
	h.n.copies.Expect(m.Digest)
	if err := h.n.store.Put(ctx, m.Digest, m.Raw, origin); err != nil {
		return fromStore(err)
	}
	return fromCopies(h.n.copies.Put(ctx, m.Digest, note))
}

// command is what the catalog is told of a manifest.
func (h *hosting) command(repo oci.Repository, m registryapi.Pushed) catalog.PutManifest {
	put := catalog.PutManifest{
		Repository: repo.Path, Tags: m.Tags,
		Descriptor: oci.Descriptor{
			MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)), ArtifactType: m.Referrer().ArtifactType,
		},
	}
	if m.Manifest.Subject != nil {
		put.Subject, put.Annotations = m.Manifest.Subject.Digest, m.Annotations
	}
	for _, d := range listed(m.Manifest) {
		put.Blobs = append(put.Blobs, d.Digest)
	}
	return put
}

// copyOf is what lies beside a manifest's copies, without its tags.
func (h *hosting) copyOf(repo oci.Repository, m registryapi.Pushed) catalog.Copy {
	put := h.command(repo, m)
	c := catalog.Copy{
		Repository: put.Repository, Descriptor: put.Descriptor, Annotations: put.Annotations, Subject: put.Subject,
	}
	for _, d := range listed(m.Manifest) {
		c.Blobs = append(c.Blobs, catalog.CopiedBlob{Digest: d.Digest, Size: d.Size})
	}
	return c
}

// listed are the blobs, or the manifests, that a manifest lists and that have to be in its repository, each once. What
// has URLs lies elsewhere.
func listed(m oci.Manifest) []oci.Descriptor {
	all := m.Manifests
	if !m.Index() {
		all = slices.DeleteFunc(m.Blobs(), func(d oci.Descriptor) bool { return len(d.URLs) > 0 })
	}
	seen := make(map[oci.Digest]bool, len(all))
	var out []oci.Descriptor
	for _, d := range all {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			out = append(out, d)
		}
	}
	return out
}

// tell lets the holders of a manifest know what became of it, beside the answer to the client. What does not reach them
// they find out when they compare notes with the catalog.
func (h *hosting) tell(d oci.Digest, c catalog.Copy) {
	h.n.background.Go(func() {
		ctx, cancel := context.WithTimeout(h.n.life, noteLimit)
		defer cancel()
		if err := h.n.copies.Note(ctx, d, catalog.EncodeCopies([]catalog.Copy{c}), false); err != nil {
			h.n.log.LogAttrs(ctx, slog.LevelDebug, "note not kept everywhere", slog.String("digest", d.String()), slog.Any("error", err))
		}
	})
}

// DeleteTag implements registryapi.Remover.
func (h *hosting) DeleteTag(ctx context.Context, repo oci.Repository, tag string) error {
	was, found, err := h.n.catalog.Tag(ctx, repo.Path, tag, false)
	if err != nil {
		return fromCatalog(err)
	}
	r, err := h.apply(ctx, catalog.DeleteTag{Repository: repo.Path, Tag: tag})
	if err != nil || !found {
		return err
	}
	h.tellOf(repo, was.Digest, catalog.Copy{Tags: []catalog.CopiedTag{{Name: tag, Index: r.Index, Gone: true}}})
	return nil
}

// DeleteManifest implements registryapi.Remover.
func (h *hosting) DeleteManifest(ctx context.Context, repo oci.Repository, d oci.Digest) error {
	r, err := h.apply(ctx, catalog.DeleteManifest{Repository: repo.Path, Digest: d})
	if err != nil {
		return err
	}
	h.tellOf(repo, d, catalog.Copy{Index: r.Index, Gone: true})
	h.n.links.forget(repo, d) // only for when the catalog cannot be asked
	return nil
}

func (h *hosting) tellOf(repo oci.Repository, d oci.Digest, c catalog.Copy) {
	c.Repository, c.Descriptor.Digest = repo.Path, d
	h.tell(d, c)
}

// DeleteBlob implements registryapi.Remover.
func (h *hosting) DeleteBlob(ctx context.Context, repo oci.Repository, d oci.Digest) error {
	if _, err := h.apply(ctx, catalog.UnlinkBlob{Repository: repo.Path, Digest: d}); err != nil {
		return err
	}
	h.n.links.forget(repo, d) // only for when the catalog cannot be asked
	return nil
}
