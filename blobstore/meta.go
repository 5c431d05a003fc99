package blobstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// maxMetaBytes bounds a sidecar that is read: some hundred thousand links.
const maxMetaBytes = 16 << 20

// An Origin says where a blob came from and what it is.
type Origin struct {
	Repository oci.Repository // the repository that has confirmed the blob; it is linked. The zero Repository links none
	MediaType  string         // "" when not known
	Hosted     bool           // it was pushed to the farm itself: there is no other place to fetch it from, and it is never evicted
	Note       []byte         // put beside it when it has no note yet (see SetNote)
}

// A meta is what the sidecar beside a blob keeps: what cannot be recomputed from the blob's bytes.
type meta struct {
	Size      int64            `json:"size"`
	MediaType string           `json:"media_type,omitempty"`
	Origin    oci.Repository   `json:"origin,omitzero"`
	Hosted    bool             `json:"hosted,omitempty"`
	Links     []oci.Repository `json:"links,omitempty"` // sorted; never changed in place
	Note      []byte           `json:"note,omitempty"`  // means something to others only; never changed in place
}

func (m meta) marshal() []byte {
	raw, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("blobstore: sidecar not written: %v", err)) // strings and numbers only
	}
	return append(raw, '\n')
}

// parseMeta reads a sidecar. What it accepts is in order: links are sorted, named in full and not repeated.
func parseMeta(raw []byte) (meta, error) {
	var m meta
	if len(raw) > maxMetaBytes {
		return meta{}, fmt.Errorf("sidecar of %d bytes", len(raw))
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return meta{}, fmt.Errorf("sidecar: %w", err)
	}
	if m.Size < 0 {
		return meta{}, fmt.Errorf("sidecar with size %d", m.Size)
	}
	m.Links = slices.DeleteFunc(m.Links, func(r oci.Repository) bool { return r.Upstream == "" || r.Path == "" })
	slices.SortFunc(m.Links, compareRepositories)
	m.Links = slices.Clip(slices.Compact(m.Links))
	if len(m.Links) == 0 {
		m.Links = nil
	}
	return m, nil
}

func compareRepositories(a, b oci.Repository) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return strings.Compare(a.Upstream, b.Upstream)
}

func (m meta) linked(repo oci.Repository) bool {
	_, ok := slices.BinarySearchFunc(m.Links, repo, compareRepositories)
	return ok
}

// withLink is m with one more link, in new memory: readers may still look at the old links.
func (m meta) withLink(repo oci.Repository) meta {
	at, ok := slices.BinarySearchFunc(m.Links, repo, compareRepositories)
	if !ok && repo.Upstream != "" && repo.Path != "" {
		m.Links = slices.Insert(slices.Clone(m.Links), at, repo)
	}
	return m
}

func (m meta) withoutLink(repo oci.Repository) meta {
	if at, ok := slices.BinarySearchFunc(m.Links, repo, compareRepositories); ok {
		m.Links = slices.Delete(slices.Clone(m.Links), at, at+1)
	}
	return m
}

// same tells whether other, which came of m or the other way round, says the same.
func (m meta) same(other meta) bool {
	return len(m.Links) == len(other.Links) && m.MediaType == other.MediaType && m.sameMarks(other)
}

// sameMarks tells whether other says the same of what must not be forgotten.
func (m meta) sameMarks(other meta) bool {
	return m.Hosted == other.Hosted && bytes.Equal(m.Note, other.Note)
}

// withOrigin is m after o confirmed the blob.
func (m meta) withOrigin(o Origin) meta {
	if o.MediaType != "" {
		m.MediaType = o.MediaType
	}
	if m.Origin == (oci.Repository{}) {
		m.Origin = o.Repository
	}
	m.Hosted = m.Hosted || o.Hosted
	if len(m.Note) == 0 {
		m.Note = bytes.Clone(o.Note)
	}
	return m.withLink(o.Repository)
}

// merged is m with everything that other knows besides.
func (m meta) merged(other meta) meta {
	if m.MediaType == "" {
		m.MediaType = other.MediaType
	}
	if m.Origin == (oci.Repository{}) {
		m.Origin = other.Origin
	}
	m.Hosted = m.Hosted || other.Hosted
	if len(m.Note) == 0 {
		m.Note = other.Note
	}
	for _, repo := range other.Links {
		m = m.withLink(repo)
	}
	return m
}
