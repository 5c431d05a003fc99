package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// Resolve is the descriptor of the manifest that ref, a tag or a digest, names now, by HEAD, which Docker Hub does not count against
// its pull limit. Where the upstream has no HEAD for manifests, or leaves out digest, size or media type, it is by GET, and raw
// are the manifest's bytes; else raw is nil. accept nil means oci.ManifestTypes. Errors are those of Manifest.
func (c *Client) Resolve(ctx context.Context, path, ref string, accept []string) (d oci.Descriptor, raw []byte, err error) {
	if _, err := oci.ParseReference(ref); err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("resolve a manifest of %s at %s: %w", path, c.cfg.Name, err)
	}
	r := manifestRequest(path, ref, accept)
	r.kind, r.method, r.what = kindManifestHead, http.MethodHead, "resolve "+ref+" of "+path
	a, err := c.open(ctx, r)
	switch {
	case err == nil:
		_ = a.Close()
		d, ok := a.descriptor()
		if unsupported(d.MediaType) {
			return oci.Descriptor{}, nil, c.explain(ctx, r.what, errSchema1)
		}
		if ok {
			return d, nil, nil
		}
	case !errors.Is(err, oci.ErrUnsupported):
		return oci.Descriptor{}, nil, err
	}
	mediaType, raw, digest, err := c.Manifest(ctx, path, ref, accept)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return oci.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(raw))}, raw, nil
}

// descriptor reads a manifest's descriptor from the headers; not ok when a part of it is not there.
func (a *answer) descriptor() (oci.Descriptor, bool) {
	d, err := oci.ParseDigest(a.header.Get("Docker-Content-Digest"))
	desc := oci.Descriptor{MediaType: mediaType(a.header.Get("Content-Type")), Digest: d, Size: a.length}
	return desc, err == nil && desc.Size > 0 && desc.Size <= oci.MaxManifestBytes && !vague(desc.MediaType)
}

// Manifest is the manifest that ref, a tag or a digest, names: its media type, its bytes as the upstream sent them, and
// their digest. It matches ref when that is a digest, and what the upstream says that it is otherwise; if it does not,
// the error is a *oci.MismatchError. accept nil means oci.ManifestTypes. Further errors are oci.ErrNotFound,
// ErrNameUnknown, ErrUnauthorized, ErrDenied, ErrUnavailable, ErrTooLarge, ErrUnsupported (schema 1), ErrTagInvalid,
// ErrDigestInvalid and *oci.TooManyRequestsError.
func (c *Client) Manifest(ctx context.Context, path, ref string, accept []string) (mediaType string, raw []byte, d oci.Digest, err error) {
	r := manifestRequest(path, ref, accept)
	reference, err := oci.ParseReference(ref)
	if err != nil {
		return "", nil, d, fmt.Errorf("get manifest of %s at %s: %w", path, c.cfg.Name, err)
	}
	a, err := c.open(ctx, r)
	if err != nil {
		return "", nil, d, err
	}
	if raw, err = a.readAll(oci.MaxManifestBytes); err != nil {
		return "", nil, d, err
	}
	if d, err = a.verify(reference.Digest, raw); err != nil {
		return "", nil, d, c.explain(ctx, r.what, err)
	}
	if mediaType = a.manifestType(raw); unsupported(mediaType) {
		return "", nil, d, c.explain(ctx, r.what, errSchema1)
	}
	return mediaType, raw, d, nil
}

func manifestRequest(path, ref string, accept []string) request {
	if len(accept) == 0 {
		accept = oci.ManifestTypes()
	}
	return request{
		kind: kindManifest, method: http.MethodGet, repository: path, path: "manifests/" + ref,
		accept: strings.Join(accept, ", "), what: "get manifest " + ref + " of " + path,
	}
}

var errSchema1 = fmt.Errorf("%w: Docker schema 1", oci.ErrUnsupported)

func unsupported(mediaType string) bool {
	return mediaType == oci.MediaTypeDockerSchema1 || mediaType == oci.MediaTypeDockerSigned1
}

// verify hashes raw and compares with the digest that was asked for, or else the one that the upstream announced.
func (a *answer) verify(asked oci.Digest, raw []byte) (oci.Digest, error) {
	want := asked
	if want.IsZero() {
		want, _ = oci.ParseDigest(a.header.Get("Docker-Content-Digest"))
	}
	if want.IsZero() {
		return oci.FromBytes(oci.SHA256, raw), nil
	}
	if oci.FromBytes(want.Algorithm(), raw) != want {
		return oci.Digest{}, &oci.MismatchError{Digest: want, Piece: -1}
	}
	return want, nil
}

// manifestType is the media type that a manifest came with. Where that says nothing it is the one inside, and where
// that is missing too, as OCI allows, what the fields say.
func (a *answer) manifestType(raw []byte) string {
	given := mediaType(a.header.Get("Content-Type"))
	if !vague(given) {
		return given
	}
	var inside struct {
		SchemaVersion int
		MediaType     string
		Manifests     json.RawMessage
		Layers        json.RawMessage
	}
	switch err := json.Unmarshal(raw, &inside); {
	case err != nil:
		return given
	case inside.MediaType != "":
		return inside.MediaType
	case inside.SchemaVersion == 1:
		return oci.MediaTypeDockerSchema1
	case inside.Manifests != nil:
		return oci.MediaTypeOCIIndex
	case inside.Layers != nil:
		return oci.MediaTypeOCIManifest
	}
	return given
}

// vague tells whether a media type is what servers send that know none.
func vague(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "application/octet-stream", "text/plain", "text/html":
		return true
	}
	return false
}
