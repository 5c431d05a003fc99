package hub

import (
	"crypto/hmac"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// cdnPrefix starts the paths of the CDN, which look as Docker Hub's do.
const cdnPrefix = "/registry-v2/docker/registry/v2/blobs/"

// cdnLocation is the signed URL of a blob, good until expires.
func (h *Hub) cdnLocation(r *http.Request, q request, expires time.Time) (string, error) {
	d, err := digest.Parse(q.ref)
	if err != nil {
		return "", err
	}
	path := fmt.Sprintf("%s%s/%s/%s/data", cdnPrefix, d.Algorithm(), d.Encoded()[:2], d.Encoded())
	v := url.Values{"repo": {q.repo}, "expires": {strconv.FormatInt(expires.UnixNano(), 10)}}
	v.Set("signature", h.mac(path+"?"+v.Encode()))
	return h.publicURL(cdnEnd, r) + path + "?" + v.Encode(), nil
}

// serveRedirect sends a blob GET on to the CDN, if the repository has the blob.
func (h *Hub) serveRedirect(a *answer, r *http.Request, met []*fault) {
	if status := h.statBlob(r); status != http.StatusOK {
		if status == http.StatusNotFound {
			writeErrorDetail(a, status, "BLOB_UNKNOWN", "blob unknown to registry", a.q.ref)
			return
		}
		writeError(a, status, errorCode(status), "the blob cannot be found")
		return
	}
	expires := time.Now().Add(h.cfg.RedirectTTL)
	if first(met, Expired) != nil {
		expires = time.Now().Add(-time.Second)
	}
	location, err := h.cdnLocation(r, a.q, expires)
	if err != nil {
		writeError(a, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	http.Redirect(a, r, location, http.StatusTemporaryRedirect)
}

// statBlob asks the backend for a blob without its bytes and returns the status.
func (h *Hub) statBlob(r *http.Request) int {
	head := r.Clone(r.Context())
	head.Method = http.MethodHead
	head.Header.Del("Range")
	head.Body = http.NoBody
	w := &headOnly{header: http.Header{}, status: http.StatusOK}
	h.backend.ServeHTTP(w, head)
	return w.status
}

// headOnly is a response of which only the status is kept.
type headOnly struct {
	header http.Header
	status int
}

func (w *headOnly) Header() http.Header         { return w.header }
func (w *headOnly) WriteHeader(status int)      { w.status = status }
func (w *headOnly) Write(p []byte) (int, error) { return len(p), nil }

// serveCDN answers signed URLs. Like a CDN it knows no tokens.
func (h *Hub) serveCDN(w http.ResponseWriter, r *http.Request) {
	q, problem := h.cdnRequest(r)
	a := h.newAnswer(w, r, q)
	if !a.before(r, h.early(q)) {
		return
	}
	if problem != "" {
		http.Error(a, problem, http.StatusForbidden)
		return
	}
	h.stats.arrived(q, r)
	if !a.before(r, h.late(q)) {
		return
	}
	defer a.finish()
	inner := r.Clone(r.Context())
	inner.URL = &url.URL{Path: "/v2/" + q.repo + "/blobs/" + q.ref}
	inner.RequestURI = inner.URL.Path
	inner.Header.Del("Authorization")
	h.backend.ServeHTTP(a, inner)
}

// cdnRequest reads a signed URL, and says what is wrong with it.
func (h *Hub) cdnRequest(r *http.Request) (q request, problem string) {
	q = request{kind: Blob, method: r.Method}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, cdnPrefix), "/")
	v := r.URL.Query()
	if len(parts) != 4 || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		return q, "AccessDenied"
	}
	q.repo, q.ref = v.Get("repo"), parts[0]+":"+parts[2]
	signature := v.Get("signature")
	v.Del("signature")
	if !hmac.Equal([]byte(h.mac(r.URL.Path+"?"+v.Encode())), []byte(signature)) {
		return q, "AccessDenied: the signature does not match"
	}
	expires, err := strconv.ParseInt(v.Get("expires"), 10, 64)
	if err != nil || time.Now().UnixNano() > expires {
		return q, "AccessDenied: the request has expired"
	}
	return q, ""
}
