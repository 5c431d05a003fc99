package registryapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

const (
	// maxDescriptors is how many blobs and manifests one manifest may list.
	maxDescriptors = 10_000
	// maxDepth and maxValues bound the JSON of a manifest before it is parsed: arrays and objects within each other, and
	// all of them together.
	maxDepth  = 32
	maxValues = 4*maxDescriptors + 10_000
)

// putManifest answers PUT of a manifest, by tag or digest.
func (h *Handler) putManifest(w *response, r *http.Request, p push) error {
	if r.ContentLength > oci.MaxManifestBytes {
		return fmt.Errorf("manifest of %d bytes: %w", r.ContentLength, oci.ErrTooLarge)
	}
	if p.ref.Tag != "" && len(p.tags) > 0 {
		return badRequest(codeTagInvalid, "tag parameters go with a digest", "tag")
	}
	raw, err := io.ReadAll(io.LimitReader(p.body, oci.MaxManifestBytes+1))
	if err != nil {
		return err
	}
	if len(raw) > oci.MaxManifestBytes {
		return fmt.Errorf("manifest: %w", oci.ErrTooLarge)
	}
	m, err := parsePushed(r.Header.Get("Content-Type"), raw, p.ref)
	if err != nil {
		return err
	}
	m.Tags = p.tags
	if p.ref.Tag != "" {
		m.Tags = []string{p.ref.Tag}
	}
	ctx, cancel := h.committing(r)
	defer cancel()
	if err := h.hosting.PutManifest(ctx, p.repo, m); err != nil {
		return because(ctx, err)
	}
	header := w.Header()
	header.Set("Docker-Content-Digest", m.Digest.String())
	if m.Manifest.Subject != nil {
		header.Set("OCI-Subject", m.Manifest.Subject.Digest.String())
	}
	for _, tag := range p.tags {
		header.Add("OCI-Tag", tag)
	}
	return h.answer(w, http.StatusCreated, p.location("/manifests/"+m.Digest.String()))
}

// parsePushed checks a manifest that came as contentType under ref.
func parsePushed(contentType string, raw []byte, ref oci.Reference) (Pushed, error) {
	m := Pushed{Raw: raw, Digest: oci.FromBytes(oci.SHA256, raw)}
	if !ref.Digest.IsZero() {
		m.Digest = oci.FromBytes(ref.Digest.Algorithm(), raw)
		if m.Digest != ref.Digest {
			return Pushed{}, &oci.MismatchError{Digest: ref.Digest, Piece: -1}
		}
	}
	if !boundedJSON(raw) {
		return Pushed{}, fmt.Errorf("%w: too deep or too many values", oci.ErrManifestInvalid)
	}
	mediaType, _, _ := strings.Cut(contentType, ";") // parameters are ignored
	var err error
	if m.Manifest, err = oci.ParseManifest(strings.ToLower(strings.TrimSpace(mediaType)), raw); err != nil {
		return Pushed{}, err
	}
	var more struct {
		SchemaVersion int               `json:"schemaVersion"`
		Annotations   map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &more); err != nil {
		return Pushed{}, fmt.Errorf("%w: %w", oci.ErrManifestInvalid, err)
	}
	m.MediaType, m.Annotations = m.Manifest.MediaType, more.Annotations
	return m, m.check(more.SchemaVersion)
}

// check holds a manifest to what its media type asks for.
func (m Pushed) check(schemaVersion int) error {
	bad := ""
	switch {
	case !slices.Contains(oci.ManifestTypes(), m.MediaType):
		bad = fmt.Sprintf("media type %.100q", m.MediaType)
	case schemaVersion != 2:
		bad = fmt.Sprintf("schema version %d", schemaVersion)
	case len(m.Manifest.Layers)+len(m.Manifest.Manifests) > maxDescriptors:
		bad = fmt.Sprintf("more than %d descriptors", maxDescriptors)
	case m.Manifest.Index() && (m.Manifest.Config != nil || len(m.Manifest.Layers) > 0):
		bad = "an index with a config or layers"
	case !m.Manifest.Index() && len(m.Manifest.Manifests) > 0:
		bad = "an image that lists manifests"
	case !m.Manifest.Index() && m.Manifest.Config == nil:
		bad = "an image without a config"
	}
	if bad != "" {
		return fmt.Errorf("%w: %s", oci.ErrManifestInvalid, bad)
	}
	return nil
}

// boundedJSON tells whether text is within the bounds, by looking at it once. Whether it is JSON is for the parser.
func boundedJSON(text []byte) bool {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			values++
		case c == '}' || c == ']':
			depth--
		}
		if depth > maxDepth || values > maxValues {
			return false
		}
	}
	return true
}
