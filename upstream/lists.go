package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pullonce/pullonce/oci"
)

const (
	maxTagsBytes      = 16 << 20 // of one page; there are registries that do not page
	maxReferrersPages = 64
)

// Tags is a page of a repository's tags, as the upstream sent it. n 0 and last "" are left out of the question. link
// is a Link header to the next page as the upstream wrote it, `<…>; rel="next"`, or "" after the last page.
func (c *Client) Tags(ctx context.Context, path string, n int, last string) (raw []byte, link string, err error) {
	query := url.Values{}
	if n > 0 {
		query.Set("n", strconv.Itoa(n))
	}
	if last != "" {
		query.Set("last", last)
	}
	a, err := c.open(ctx, request{
		kind: kindTags, method: http.MethodGet, repository: path, path: "tags/list", query: query,
		accept: "application/json", what: "list tags of " + path,
	})
	if err != nil {
		return nil, "", err
	}
	if raw, err = a.readAll(maxTagsBytes); err != nil {
		return nil, "", err
	}
	if next := nextLink(a.header.Values("Link")); next != "" {
		link = "<" + next + `>; rel="next"`
	}
	return raw, link, nil
}

// Referrers is the index of the manifests that have d as their subject, all pages in one. filtered tells whether the
// upstream has left out those of another artifactType ("" asks for all). Where the upstream lacks the API, it is the
// index under the tag that the OCI distribution specification names for that, or an empty one.
func (c *Client) Referrers(ctx context.Context, path string, d oci.Digest, artifactType string) (raw []byte, filtered bool, err error) {
	query := url.Values{}
	if artifactType != "" {
		query.Set("artifactType", artifactType)
	}
	var all index
	for range maxReferrersPages {
		page, header, err := c.referrersPage(ctx, path, d, query)
		if err != nil {
			return nil, false, err
		}
		if page == nil {
			raw, err := c.referrersTag(ctx, path, d)
			return raw, false, err
		}
		filtered = artifactType != "" && header.Get("OCI-Filters-Applied") != ""
		next := nextLink(header.Values("Link"))
		if raw, err = all.add(page, next == ""); err != nil || raw != nil {
			return raw, filtered, c.explainList(ctx, path, d, err)
		}
		if query, err = nextQuery(next); err != nil {
			return nil, false, c.explainList(ctx, path, d, err)
		}
	}
	return nil, false, c.explainList(ctx, path, d, fmt.Errorf("%w: more than %d pages", oci.ErrTooLarge, maxReferrersPages))
}

func (c *Client) explainList(ctx context.Context, path string, d oci.Digest, err error) error {
	if err == nil {
		return nil
	}
	return c.explain(ctx, "list referrers of "+d.String()+" in "+path, err)
}

// referrersPage is nil without an error where the upstream lacks the API.
func (c *Client) referrersPage(ctx context.Context, path string, d oci.Digest, query url.Values) ([]byte, http.Header, error) {
	a, err := c.open(ctx, request{
		kind: kindReferrers, method: http.MethodGet, repository: path, path: "referrers/" + d.String(), query: query,
		accept: oci.MediaTypeOCIIndex, what: "list referrers of " + d.String() + " in " + path,
	})
	switch {
	case errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrNameUnknown), errors.Is(err, oci.ErrUnsupported):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	if t := mediaType(a.header.Get("Content-Type")); t != oci.MediaTypeOCIIndex && !vague(t) || t == "text/html" {
		_ = a.Close()
		return nil, nil, nil
	}
	raw, err := a.readAll(oci.MaxManifestBytes)
	return raw, a.header, err
}

// referrersTag is the index under the fallback tag, "sha256-" and at most 64 hex digits.
func (c *Client) referrersTag(ctx context.Context, path string, d oci.Digest) ([]byte, error) {
	tag := d.Algorithm() + "-" + d.Hex()[:min(len(d.Hex()), 64)]
	mediaType, raw, _, err := c.Manifest(ctx, path, tag, []string{oci.MediaTypeOCIIndex})
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return json.Marshal(newIndex())
	case err != nil:
		return nil, err
	case mediaType != oci.MediaTypeOCIIndex:
		return json.Marshal(newIndex())
	}
	return raw, nil
}

// An index is an OCI image index whose entries are kept as they came.
type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
	pages, bytes  int
}

func newIndex() index {
	return index{SchemaVersion: 2, MediaType: oci.MediaTypeOCIIndex, Manifests: []json.RawMessage{}}
}

// add takes a page. After the last one it returns the whole index, which is the page itself when there is only one.
func (i *index) add(page []byte, last bool) (raw []byte, err error) {
	var read index
	if err := json.Unmarshal(page, &read); err != nil || !bytes.HasPrefix(bytes.TrimSpace(page), []byte("{")) {
		return nil, fmt.Errorf("%w: referrers are no index", oci.ErrUnavailable)
	}
	if i.pages++; i.pages == 1 && last {
		return page, nil
	}
	if i.bytes += len(page); i.bytes > oci.MaxManifestBytes {
		return nil, fmt.Errorf("%w: referrers of more than %d bytes", oci.ErrTooLarge, oci.MaxManifestBytes)
	}
	i.Manifests = append(i.Manifests, read.Manifests...)
	if !last {
		return nil, nil
	}
	whole := newIndex()
	whole.Manifests = append(whole.Manifests, i.Manifests...)
	return json.Marshal(whole)
}

// nextQuery is the query of a link to the next page. The path is known, and the host must not be another.
func nextQuery(link string) (url.Values, error) {
	u, err := url.Parse(link)
	if err != nil || u.RawQuery == "" {
		return nil, fmt.Errorf("%w: referrers link to no next page", oci.ErrUnavailable)
	}
	return u.Query(), nil
}
