package hub

import (
	"net/http"
	"strings"
)

// Kind is what a request is about.
type Kind string

// The kinds of requests. Blob is the request that the bytes come back on: at the CDN, or at the
// registry for HEAD and where redirects are off. Redirect is the blob GET that is sent on to the CDN.
const (
	Any       Kind = ""
	Ping      Kind = "ping"
	Token     Kind = "token"
	Manifest  Kind = "manifest"
	Blob      Kind = "blob"
	Redirect  Kind = "redirect"
	Upload    Kind = "upload"
	Tags      Kind = "tags"
	Referrers Kind = "referrers"
	Catalog   Kind = "catalog"
	unknown   Kind = "unknown"
)

// request is one request as the front understands it.
type request struct {
	kind   Kind
	method string
	repo   string
	ref    string // tag or digest, or an upload session's name
}

// writes tells whether the request needs the right to push.
func (q request) writes() bool {
	return q.kind == Upload || (q.method != http.MethodGet && q.method != http.MethodHead)
}

// reference names what is asked for, as statistics show it.
func (q request) reference() string {
	if strings.Contains(q.ref, ":") {
		return q.repo + "@" + q.ref
	}
	return q.repo + ":" + q.ref
}

// parseV2 reads a path under /v2/.
func parseV2(method, path string) request {
	q := request{kind: unknown, method: method}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return q
	}
	if rest == "" {
		q.kind = Ping
		return q
	}
	if rest == "_catalog" {
		q.kind = Catalog
		return q
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	switch {
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		q.kind, q.repo, q.ref = Upload, strings.Join(parts[:n-3], "/"), parts[n-1]
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		q.kind, q.repo = Tags, strings.Join(parts[:n-2], "/")
	case n >= 3 && parts[n-2] == "manifests":
		q.kind, q.repo, q.ref = Manifest, strings.Join(parts[:n-2], "/"), parts[n-1]
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] != "uploads":
		q.kind, q.repo, q.ref = Blob, strings.Join(parts[:n-2], "/"), parts[n-1]
	case n >= 3 && parts[n-2] == "blobs":
		q.kind, q.repo = Upload, strings.Join(parts[:n-2], "/")
	case n >= 3 && parts[n-2] == "referrers":
		q.kind, q.repo, q.ref = Referrers, strings.Join(parts[:n-2], "/"), parts[n-1]
	}
	if q.repo == "" {
		q.kind = unknown
	}
	return q
}
