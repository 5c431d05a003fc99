package registryapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// manifest answers GET and HEAD of a manifest, by tag or digest. It serves what there is, whatever the client says it
// accepts, as Docker Hub does: a client that cannot use it says so itself, and better. Schema 1 alone is not served.
func (h *Handler) manifest(w *response, r *http.Request, q request) error {
	ctx, cancel := h.limited(r)
	defer cancel()
	head := r.Method == http.MethodHead
	m, err := h.registry.Manifest(ctx, q.repo, q.ref, acceptedTypes(r.Header), head)
	if err != nil {
		return because(ctx, err)
	}
	if !q.ref.Digest.IsZero() && m.Digest != q.ref.Digest {
		return fmt.Errorf("asked for manifest %s and got %s", q.ref.Digest, m.Digest)
	}
	if m.MediaType == oci.MediaTypeDockerSchema1 || m.MediaType == oci.MediaTypeDockerSigned1 {
		return fmt.Errorf("%w: Docker schema 1", oci.ErrUnsupported)
	}
	if !head && int64(len(m.Raw)) != m.Size {
		return fmt.Errorf("manifest %s has %d bytes of %d", m.Digest, len(m.Raw), m.Size)
	}
	etag := etagOf(m.Digest)
	manifestHeader(w.Header(), m, etag, q.ref.Tag != "")
	if len(r.Header["If-None-Match"]) > 0 && etagListed(r.Header, etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	header := w.Header()
	header.Set("Content-Type", m.MediaType)
	header.Set("Content-Length", strconv.FormatInt(m.Size, 10))
	w.WriteHeader(http.StatusOK)
	if !head {
		_, _ = w.Write(m.Raw) // an error is the client's, the server has closed the connection
	}
	return nil
}

func manifestHeader(header http.Header, m Manifest, etag string, byTag bool) {
	immutable(header, m.Digest, etag)
	if byTag {
		header["Cache-Control"] = cacheNever
	}
	if m.Stale {
		header["Warning"] = staleWarning
	}
}

var cacheNever = []string{"no-cache"}

// acceptedTypes lists the media types of all Accept lines, without parameters; nil if there is none. Types with q=0,
// which the client does not accept, are left out; other weights say nothing, since nothing is converted.
func acceptedTypes(header http.Header) []string {
	lines := header["Accept"]
	if len(lines) == 0 {
		return nil
	}
	types := make([]string, 0, 8)
	for _, line := range lines {
		for line != "" {
			var one string
			one, line, _ = strings.Cut(line, ",")
			name, parameters, _ := strings.Cut(one, ";")
			name = strings.TrimSpace(name)
			if name != "" && !refused(parameters) {
				types = append(types, strings.ToLower(name))
			}
		}
	}
	if len(types) == 0 {
		return nil
	}
	return types
}

// refused tells whether the parameters of a media range have q=0.
func refused(parameters string) bool {
	for parameters != "" {
		var one string
		one, parameters, _ = strings.Cut(parameters, ";")
		key, value, _ := strings.Cut(one, "=")
		if strings.EqualFold(strings.TrimSpace(key), "q") {
			weight := strings.TrimSpace(value)
			return weight != "" && strings.Trim(weight, "0.") == ""
		}
	}
	return false
}
