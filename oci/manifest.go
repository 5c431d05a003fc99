package oci

import (
	"encoding/json"
	"fmt"
)

// The media types that a farm tells apart (OCI image specification 1.1; Docker image manifest version 2, schemas 1
// and 2).
const (
	MediaTypeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeDockerSigned1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// MaxManifestBytes is the size above which a manifest is refused, the limit that the distribution specification
// recommends.
const MaxManifestBytes = 4 << 20

// ManifestTypes is the union of what clients accept and the farm can serve, in the order it is asked for upstream.
// Schema 1 is not among them.
func ManifestTypes() []string {
	return []string{MediaTypeOCIManifest, MediaTypeOCIIndex, MediaTypeDockerManifest, MediaTypeDockerList}
}

// A Descriptor points at a blob: media type, digest and size, as a manifest states them. The size is the manifest's
// claim until the blob has been checked.
type Descriptor struct {
	MediaType    string   `json:"mediaType"`
	Digest       Digest   `json:"digest"`
	Size         int64    `json:"size"`
	URLs         []string `json:"urls,omitempty"`
	ArtifactType string   `json:"artifactType,omitempty"`
}

// A Manifest is what the farm reads out of a manifest's bytes. The bytes themselves are passed on unchanged.
type Manifest struct {
	MediaType    string       `json:"mediaType"`
	ArtifactType string       `json:"artifactType,omitempty"`
	Config       *Descriptor  `json:"config,omitempty"`
	Layers       []Descriptor `json:"layers,omitempty"`
	Manifests    []Descriptor `json:"manifests,omitempty"`
	Subject      *Descriptor  `json:"subject,omitempty"`
}

// Index tells whether m lists other manifests (an OCI index or a Docker manifest list).
func (m Manifest) Index() bool {
	return m.MediaType == MediaTypeOCIIndex || m.MediaType == MediaTypeDockerList
}

// Blobs are the descriptors of the config and the layers, in the order of the manifest.
func (m Manifest) Blobs() []Descriptor {
	blobs := make([]Descriptor, 0, len(m.Layers)+1)
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	return append(blobs, m.Layers...)
}

// ParseManifest reads a manifest's bytes, which came with mediaType. A mediaType inside that differs is an error, as
// the OCI image specification asks (the same bytes must not be two things). Errors are ErrManifestInvalid, ErrTooLarge
// and, for schema 1, ErrUnsupported.
func ParseManifest(mediaType string, raw []byte) (Manifest, error) {
	if len(raw) > MaxManifestBytes {
		return Manifest{}, fmt.Errorf("%w: manifest of %d bytes, the limit is %d", ErrTooLarge, len(raw), MaxManifestBytes)
	}
	if mediaType == MediaTypeDockerSchema1 || mediaType == MediaTypeDockerSigned1 {
		return Manifest{}, fmt.Errorf("%w: Docker schema 1", ErrUnsupported)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifestInvalid, err)
	}
	if m.MediaType != "" && mediaType != "" && m.MediaType != mediaType {
		return Manifest{}, fmt.Errorf("%w: is %.100q inside and came as %.100q", ErrManifestInvalid, m.MediaType, mediaType)
	}
	if mediaType != "" {
		m.MediaType = mediaType
	}
	return m, m.check()
}

func (m Manifest) check() error {
	if len(m.Manifests) > 0 && (len(m.Layers) > 0 || m.Config != nil) {
		return fmt.Errorf("%w: is both an index and an image", ErrManifestInvalid)
	}
	all := append(m.Blobs(), m.Manifests...)
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	for _, d := range all {
		if d.Digest.IsZero() || d.Size < 0 {
			return fmt.Errorf("%w: descriptor without digest or with a negative size", ErrManifestInvalid)
		}
	}
	return nil
}
