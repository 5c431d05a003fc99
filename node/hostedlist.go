package node

import (
	"context"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// catalogPage is how many names the catalog gives at once.
const catalogPage = 1000

// Repositories implements registryapi.Lister.
func (h *hosting) Repositories(ctx context.Context, n int, last string) (paths []string, more bool, err error) {
	return pages(n, last, func(after string, n int) ([]string, error) {
		page, err := h.n.catalog.Repositories(ctx, after, n, false)
		return page, fromCatalog(err)
	})
}

// Tags implements registryapi.Lister.
func (h *hosting) Tags(ctx context.Context, repo oci.Repository, n int, last string) (tags []string, more bool, err error) {
	return pages(n, last, func(after string, n int) ([]string, error) {
		page, known, err := h.n.catalog.Tags(ctx, repo.Path, after, n, false)
		if err == nil && !known {
			err = oci.ErrNameUnknown
		}
		names := make([]string, 0, len(page))
		for _, t := range page {
			names = append(names, t.Name)
		}
		return names, fromCatalog(err)
	})
}

// pages puts at most n names after last together from pages of the catalog, and tells whether there are more.
func pages(n int, last string, ask func(after string, n int) ([]string, error)) (names []string, more bool, err error) {
	for len(names) <= n {
		want := min(n+1-len(names), catalogPage)
		page, err := ask(last, want)
		if err != nil {
			return nil, false, err
		}
		names = append(names, page...)
		if len(page) < want {
			return names, false, nil
		}
		last = names[len(names)-1]
	}
	return names[:n], true, nil
}

// Referrers implements registryapi.Lister.
func (h *hosting) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType string) ([]registryapi.Referrer, error) {
	found, err := h.n.catalog.Referrers(ctx, repo.Path, d, artifactType, false)
	if err != nil {
		return nil, fromCatalog(err)
	}
	out := make([]registryapi.Referrer, 0, len(found))
	for _, m := range found {
		out = append(out, referrer(m))
	}
	return out, nil
}

func referrer(m *catalog.Manifest) registryapi.Referrer {
	return registryapi.Referrer{
		MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size,
		ArtifactType: m.Descriptor.ArtifactType, Annotations: m.Annotations,
	}
}
