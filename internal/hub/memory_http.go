package hub

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

func (m *memory) serveManifest(w http.ResponseWriter, r *http.Request, q request) {
	switch q.method {
	case http.MethodGet, http.MethodHead:
		m.getManifest(w, r, q)
	case http.MethodPut:
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "MANIFEST_INVALID", "the manifest cannot be read")
			return
		}
		d, err := m.putManifest(q.repo, q.ref, r.Header.Get("Content-Type"), raw)
		if err != nil {
			writeError(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
			return
		}
		w.Header().Set("Location", "/v2/"+q.repo+"/manifests/"+d.String())
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		if !m.deleteManifest(q.repo, q.ref) {
			writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
}

func (m *memory) getManifest(w http.ResponseWriter, r *http.Request, q request) {
	found, d, ok := m.manifest(q.repo, q.ref)
	if !ok {
		writeErrorDetail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown", "unknown tag="+q.ref)
		return
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", strconv.Quote(d.String()))
	w.Header().Set("Content-Type", found.mediaType)
	if r.Header.Get("If-None-Match") == strconv.Quote(d.String()) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(found.raw)))
	w.WriteHeader(http.StatusOK)
	if q.method == http.MethodGet {
		_, _ = w.Write(found.raw)
	}
}

func (m *memory) serveBlob(w http.ResponseWriter, r *http.Request, q request) {
	d, err := digest.Parse(q.ref)
	if err != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	b := m.blob(q.repo, d)
	switch {
	case b == nil:
		writeErrorDetail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry", d.String())
	case q.method == http.MethodDelete:
		m.unlink(q.repo, d)
		w.WriteHeader(http.StatusAccepted)
	case q.method == http.MethodGet || q.method == http.MethodHead:
		m.getBlob(w, r, d, b)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
}

// getBlob sends a blob with everything that net/http knows about ranges, files by sendfile.
func (m *memory) getBlob(w http.ResponseWriter, r *http.Request, d digest.Digest, b *blob) {
	content, err := b.open()
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	defer func() { _ = content.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", strconv.Quote(d.String()))
	w.Header().Set("Cache-Control", "max-age=31536000")
	if inMemory, ok := content.(nopCloser); ok {
		http.ServeContent(w, r, "", time.Time{}, inMemory.ReadSeeker)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// serveTags answers a page of tags, in order, with a Link to the next.
func (m *memory) serveTags(w http.ResponseWriter, r *http.Request, q request) {
	tags, ok := m.tags(q.repo)
	if !ok {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(tags, last)
		if found {
			at++
		}
		tags = tags[at:]
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			writeError(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
			return
		}
		if n > 0 && n < len(tags) {
			tags = tags[:n]
			next := url.Values{"n": {text}, "last": {tags[n-1]}}
			w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, q.repo, next.Encode()))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"name": q.repo, "tags": append([]string{}, tags...)})
}
