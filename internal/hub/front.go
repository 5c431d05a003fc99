package hub

import (
	"bytes"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxManifest is the size of the largest manifest that is taken.
const maxManifest = 4 << 20

// serveHTTP hands a request to the part of Docker Hub that it is for.
func (e *endpoint) serveHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case e.roles[authEnd] && r.URL.Path == "/token" && !e.hub.cfg.Basic:
		e.hub.serveToken(w, r)
	case e.roles[cdnEnd] && strings.HasPrefix(r.URL.Path, cdnPrefix):
		e.hub.serveCDN(w, r)
	case e.roles[registryEnd]:
		e.hub.serveRegistry(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveRegistry is the registry's door: faults, rights, limits, then the content.
func (h *Hub) serveRegistry(w http.ResponseWriter, r *http.Request) {
	q := parseV2(r.Method, r.URL.Path)
	if q.kind == Blob && q.method == http.MethodGet && !h.cfg.NoRedirect {
		q.kind = Redirect
	}
	a := h.newAnswer(w, r, q)
	defer a.finish()
	if !a.before(r, h.early(q)) {
		return
	}
	a.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if q.kind == unknown {
		http.NotFound(a, r)
		return
	}
	c, ok := h.authorized(a, r, q)
	if !ok {
		return
	}
	h.stats.arrived(q, r)
	h.stats.byUser(c.User, func(u *UserStats) { u.Requests++ })
	if q.kind == Manifest && !q.writes() && !h.pulls.admit(a, r, c.User, q.method) {
		h.stats.change(func(s *Stats) { s.RateLimited++ })
		return
	}
	met := h.late(q)
	if !a.before(r, met) {
		return
	}
	h.dispatch(a, r, met)
}

func (h *Hub) dispatch(a *answer, r *http.Request, met []*fault) {
	switch {
	case a.q.kind == Ping:
		writeJSON(a, http.StatusOK, struct{}{})
	case a.q.kind == Redirect:
		h.serveRedirect(a, r, met)
	case a.q.kind == Referrers && h.cfg.NoReferrersAPI:
		http.NotFound(a, r)
	case a.q.kind == Referrers:
		h.refs.serve(a, r, a.q)
	case a.q.kind == Manifest && a.q.method == http.MethodPut:
		h.putManifest(a, r)
	default:
		h.backend.ServeHTTP(a, r)
	}
}

// putManifest lets the backend store a manifest and notes its subject.
func (h *Hub) putManifest(a *answer, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	if err != nil {
		writeError(a, http.StatusBadRequest, "MANIFEST_INVALID", "the manifest cannot be read")
		return
	}
	if len(raw) > maxManifest {
		writeError(a, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is too large")
		return
	}
	d, mediaType := digest.FromBytes(raw), r.Header.Get("Content-Type")
	subject := subjectOf(raw)
	if subject != "" && !h.cfg.NoReferrersAPI {
		a.Header().Set("OCI-Subject", subject.String())
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	r.ContentLength = int64(len(raw))
	stored := &statusWriter{ResponseWriter: a}
	h.backend.ServeHTTP(stored, r)
	if stored.status == http.StatusCreated {
		h.refs.record(a.q.repo, mediaType, d, raw)
	}
}

// statusWriter notes the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
