package registryapi

import (
	"cmp"
	"errors"
	"net/url"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// A kind is what a path asks for; it labels metrics.
type kind uint8

const (
	kindOther kind = iota
	kindBase
	kindManifest
	kindBlob
	kindTags
	kindReferrers
	kindUpload
	kindCatalog
	kindCount
)

func (k kind) String() string {
	return [kindCount]string{"other", "base", "manifest", "blob", "tags", "referrers", "upload", "catalog"}[k]
}

// A target is a path of the distribution API in its parts. Name and last are checked for what no valid path has, but
// are not yet parsed into a repository, a reference or a digest.
type target struct {
	kind kind
	name string // empty for kindBase, kindCatalog and kindOther
	last string // the reference, digest or id of an upload; empty for kinds that have none
}

// parsePath takes a request's path apart. A path that tries to be another than it looks (dot elements, empty elements,
// encoded slashes, control characters) is refused; one that is merely none of the API's is kindOther.
func parsePath(u *url.URL) (target, error) {
	if u.Path == "/v2/" || u.Path == "/v2" {
		return target{kind: kindBase}, nil
	}
	if u.Path != "/" && escapes(u) {
		return target{}, badRequest(codeNameInvalid, "invalid path", "")
	}
	rest, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok {
		return target{}, nil
	}
	head, last := cutLast(rest)
	name, verb := cutLast(head)
	switch verb {
	case "manifests":
		return target{kindManifest, name, last}, nil
	case "blobs":
		return target{kindBlob, name, last}, nil
	case "referrers":
		return target{kindReferrers, name, last}, nil
	case "tags":
		if last == "list" {
			return target{kind: kindTags, name: name}, nil
		}
	case "uploads":
		if name, ok := strings.CutSuffix(name, "/blobs"); ok {
			return target{kindUpload, name, last}, nil
		}
	}
	if rest == "_catalog" {
		return target{kind: kindCatalog}, nil
	}
	return target{}, nil
}

// cutLast cuts at the last slash; without one, all is after it.
func cutLast(path string) (before, after string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// escapes tells whether the path of u could mean something else to somebody else.
func escapes(u *url.URL) bool {
	if u.RawPath != "" && (strings.Contains(u.RawPath, "%2F") || strings.Contains(u.RawPath, "%2f")) {
		return true
	}
	path := u.Path
	for i := range len(path) {
		c := path[i]
		if c < ' ' || c == 0x7f || c == '\\' {
			return true
		}
		if c == '/' && emptyOrDots(path[i+1:]) {
			return true
		}
	}
	return false
}

// emptyOrDots tells whether the first element of path is "", "." or "..".
func emptyOrDots(path string) bool {
	for i := range len(path) {
		if path[i] == '/' {
			return true
		}
		if path[i] != '.' || i > 1 {
			return false
		}
	}
	return true
}

// A query is the parameters that the API knows, unescaped. Others are ignored.
type query struct{ ns, n, last, artifactType string }

// maxParameter bounds a parameter's length: it may become part of a key in the cache.
const maxParameter = 512

// parseQuery reads a URL's query. A parameter that comes twice is refused: one reader might take the first, the next
// one the last.
func parseQuery(raw string) (query, error) {
	var q query
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(part, "=")
		field := q.field(key)
		if field == nil || value == "" {
			continue
		}
		text, err := url.QueryUnescape(value)
		if err != nil || *field != "" || !plain(text) {
			return query{}, badRequest(parameterCode(key), "invalid query parameter", key)
		}
		*field = text
	}
	q.ns = strings.ToLower(q.ns)
	if strings.ContainsAny(q.ns, "/?#%@ ") {
		return query{}, badRequest(codeNameInvalid, "invalid query parameter", "ns")
	}
	return q, nil
}

func (q *query) field(key string) *string {
	switch key {
	case "ns":
		return &q.ns
	case "n":
		return &q.n
	case "last":
		return &q.last
	case "artifactType":
		return &q.artifactType
	}
	return nil
}

func parameterCode(key string) string {
	switch key {
	case "ns":
		return codeNameInvalid
	case "artifactType":
		return codeManifestInvalid
	}
	return codePageInvalid
}

// plain tells whether text is short, printable ASCII.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) <= maxParameter
}

// A request is what a client asked for, parsed.
type request struct {
	kind  kind
	repo  oci.Repository
	ref   oci.Reference // of a manifest
	d     oci.Digest    // of a blob or of a referrers' subject
	id    string        // of an upload
	query query
	name  string // the repository as the client wrote it
}

// parseRequest parses the URL of a request. The kind is right even if there is an error.
func parseRequest(u *url.URL, names oci.Names) (request, error) {
	t, err := parsePath(u)
	q := request{kind: t.kind, name: t.name}
	if err != nil || t.kind == kindBase || t.kind == kindOther {
		return q, err
	}
	if u.RawQuery != "" {
		if q.query, err = parseQuery(u.RawQuery); err != nil {
			return q, err
		}
	}
	if t.kind == kindCatalog {
		return q, nil
	}
	if q.repo, err = names.Repository(t.name, q.query.ns); err != nil {
		if errors.Is(err, oci.ErrNameUnknown) {
			first, _, _ := strings.Cut(t.name, "/")
			err = unknownUpstream(cmp.Or(q.query.ns, first))
		}
		return q, err
	}
	switch t.kind {
	case kindManifest:
		q.ref, err = oci.ParseReference(t.last)
	case kindBlob, kindReferrers:
		q.d, err = oci.ParseDigest(t.last)
	case kindUpload:
		q.id = t.last
	}
	return q, err
}
