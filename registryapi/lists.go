package registryapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// tags answers a page of a repository's tags.
func (h *Handler) tags(w *response, r *http.Request, q request) error {
	n, err := pageSize(q.query.n)
	if err != nil {
		return err
	}
	if h.hosted(q) {
		return h.hostedTags(w, r, q, n)
	}
	if q.query.n != "" && n == 0 { // the specification's empty page
		return writeJSON(w, "application/json", tagList(q.name, []string{}))
	}
	ctx, cancel := h.limited(r)
	defer cancel()
	page, err := h.registry.Tags(ctx, q.repo, n, q.query.last)
	if err != nil {
		return because(ctx, err)
	}
	if err := setLink(w.Header(), r.URL.Path, q.query, page.Link); err != nil {
		return err
	}
	if page.Stale {
		w.Header()["Warning"] = staleWarning
	}
	return writeJSON(w, "application/json", page.Raw)
}

// pageSize is the parameter n; 0 if there is none.
func pageSize(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, ok := parseNumber(text)
	if !ok || n > 1e9 {
		return 0, badRequest(codePageInvalid, "invalid number of results requested", "n")
	}
	return int(n), nil
}

func tagList(name string, tags []string) []byte {
	body, err := json.Marshal(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
	if err != nil {
		panic(err) // strings always marshal
	}
	return body
}

// referrers answers the index of the manifests that point at a digest.
func (h *Handler) referrers(w *response, r *http.Request, q request) error {
	ctx, cancel := h.limited(r)
	defer cancel()
	page, err := h.registry.Referrers(ctx, q.repo, q.d, q.query.artifactType)
	if err != nil {
		return because(ctx, err)
	}
	if page.Link != "" {
		return fmt.Errorf("%w: referrers on several pages", oci.ErrUnsupported)
	}
	if page.Filtered && q.query.artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if page.Stale {
		w.Header()["Warning"] = staleWarning
	}
	return writeJSON(w, oci.MediaTypeOCIIndex, page.Raw)
}

// setLink points a client at the next page by the path that it used for this one: the upstream's own link would lead
// it past the mirror, or to a repository of another name.
func setLink(header http.Header, path string, q query, link string) error {
	if link == "" {
		return nil
	}
	next, err := nextPage(link)
	if err != nil {
		return err
	}
	if q.ns != "" {
		next.Set("ns", q.ns)
	}
	header.Set("Link", "<"+path+"?"+next.Encode()+`>; rel="next"`)
	return nil
}

// nextPage reads n and last out of an upstream's link. One that pages in another way cannot be passed on: the client
// would get the first page again for ever, or take the first for all.
func nextPage(link string) (url.Values, error) {
	target, ok := strings.CutPrefix(strings.TrimSpace(link), "<")
	target, _, found := strings.Cut(target, ">")
	if !ok || !found {
		return nil, fmt.Errorf("%w: link to the next page %.200q", oci.ErrUnsupported, link)
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("%w: link to the next page: %w", oci.ErrUnsupported, err)
	}
	given := u.Query()
	next := url.Values{}
	for _, key := range []string{"n", "last"} {
		if value := given.Get(key); value != "" {
			next.Set(key, value)
		}
	}
	if next.Get("last") == "" || !plain(next.Get("last")) {
		return nil, fmt.Errorf("%w: link to the next page %.200q", oci.ErrUnsupported, link)
	}
	return next, nil
}

func writeJSON(w *response, mediaType string, body []byte) error {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // an error is the client's; to HEAD the server sends no body
	return nil
}
