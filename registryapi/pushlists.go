package registryapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

// maxPage is how many names one page of a list has at most.
const maxPage = 10_000

// catalog answers a page of the hosted repositories, by the names that clients without ns use.
func (h *Handler) catalog(w *response, r *http.Request, q request) error {
	n, err := pageSize(q.query.n)
	if err != nil {
		return err
	}
	names := []string{}
	prefix := h.hosting.Prefix() + "/"
	if h.asFarm(r) {
		prefix = ""
	}
	if q.query.n == "" || n > 0 {
		ctx, cancel := h.limited(r)
		defer cancel()
		paths, more, err := h.listed(ctx, pageOf(n), trimPrefix(q.query.last, prefix))
		if err != nil {
			return because(ctx, err)
		}
		for _, path := range paths {
			names = append(names, prefix+path)
		}
		linkNext(w.Header(), r.URL.Path, q.query, pageOf(n), names, more)
	}
	return writeList(w, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// listed is the page of hosted repositories after last that the caller of ctx sees: at most n, and whether there are
// more. Neither tells anything of those that he does not see.
func (h *Handler) listed(ctx context.Context, n int, last string) (page []string, more bool, err error) {
	if h.cfg.Access == nil {
		return h.hosting.Repositories(ctx, n, last)
	}
	if c := access.CallerOf(ctx); c.Authorization != "" {
		if err := h.cfg.Access.Login(ctx, c); err != nil {
			return nil, false, err
		}
	}
	if h.everywhere(ctx, access.List) {
		return h.hosting.Repositories(ctx, n, last)
	}
	for {
		paths, more, err := h.hosting.Repositories(ctx, maxPage, last)
		if err != nil {
			return nil, false, err
		}
		for _, path := range paths {
			err := h.allow(ctx, path, access.List)
			if err != nil && !errors.Is(err, oci.ErrUnauthorized) && !errors.Is(err, oci.ErrDenied) {
				return nil, false, err
			}
			if err == nil && len(page) == n {
				return page, true, nil
			}
			if err == nil {
				page = append(page, path)
			}
		}
		if ctx.Err() != nil || !more || len(paths) == 0 {
			return page, false, ctx.Err()
		}
		last = paths[len(paths)-1]
	}
}

func trimPrefix(last, prefix string) string {
	if len(last) > len(prefix) && last[:len(prefix)] == prefix {
		return last[len(prefix):]
	}
	return last
}

// hostedTags answers a page of a hosted repository's tags. A page of none still tells whether there is the repository.
func (h *Handler) hostedTags(w *response, r *http.Request, q request, n int) error {
	ctx, cancel := h.limited(r)
	defer cancel()
	none := q.query.n != "" && n == 0
	if none {
		n = 1
	}
	tags, more, err := h.hosting.Tags(ctx, q.repo, pageOf(n), q.query.last)
	if err != nil {
		return because(ctx, err)
	}
	if none || tags == nil {
		tags = []string{} // an empty list in JSON, too
	}
	linkNext(w.Header(), r.URL.Path, q.query, pageOf(n), tags, more)
	return writeJSON(w, "application/json", tagList(q.name, tags))
}

// hostedReferrers answers the index of the manifests in a hosted repository that point at a digest. One that nobody
// has pushed has none, as the specification asks.
func (h *Handler) hostedReferrers(w *response, r *http.Request, q request) error {
	ctx, cancel := h.limited(r)
	defer cancel()
	found, err := h.hosting.Referrers(ctx, q.repo, q.d, q.query.artifactType)
	if err != nil && !errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrNameUnknown) {
		return because(ctx, err)
	}
	if q.query.artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if found == nil {
		found = []Referrer{}
	}
	body, err := json.Marshal(struct {
		SchemaVersion int        `json:"schemaVersion"`
		MediaType     string     `json:"mediaType"`
		Manifests     []Referrer `json:"manifests"`
	}{2, oci.MediaTypeOCIIndex, found})
	if err != nil {
		return err
	}
	return writeJSON(w, oci.MediaTypeOCIIndex, body)
}

func pageOf(n int) int {
	if n == 0 {
		return maxPage
	}
	return min(n, maxPage)
}

// linkNext points a client at the page after this one.
func linkNext(header http.Header, path string, q query, n int, page []string, more bool) {
	if !more || len(page) == 0 {
		return
	}
	next := url.Values{"n": {strconv.Itoa(n)}, "last": {page[len(page)-1]}}
	if q.ns != "" {
		next.Set("ns", q.ns)
	}
	header.Set("Link", "<"+path+"?"+next.Encode()+`>; rel="next"`)
}

func writeList(w *response, list any) error {
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", body)
}
