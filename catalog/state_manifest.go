package catalog

import (
	"maps"
	"slices"

	"github.com/pullonce/pullonce/oci"
)

func (p PutManifest) apply(s *state, _ *Result) error {
	if missing := s.missing(p.Repository, p.Blobs); len(missing) > 0 {
		return &MissingError{p.Repository, missing}
	}
	m := &Manifest{
		Repository: p.Repository, Descriptor: p.Descriptor, Annotations: p.Annotations,
		Subject: p.Subject, Blobs: p.Blobs, Index: s.index,
	}
	s.putManifest(m)
	s.unbury(p.Repository, p.Descriptor.Digest.String())
	for _, tag := range p.Tags {
		s.putTag(tagItem{p.Repository, tag, p.Descriptor.Digest, s.index})
	}
	return nil
}

func (d DeleteManifest) apply(s *state, _ *Result) error {
	if !s.removeManifest(d.Repository, d.Digest) {
		return notFound("manifest %s in %s", d.Digest, d.Repository)
	}
	s.bury(d.Repository, d.Digest.String())
	return nil
}

// missing are the blobs that a repository has neither as a blob nor as a manifest, each once.
func (s *state) missing(repository string, blobs []oci.Digest) []oci.Digest {
	var missing []oci.Digest
	seen := make(map[oci.Digest]bool, len(blobs))
	for _, d := range blobs {
		if !seen[d] && !s.has(repository, d) {
			missing = append(missing, d)
		}
		seen[d] = true
	}
	return missing
}

// has tells whether a repository has d as a blob or as a manifest.
func (s *state) has(repository string, d oci.Digest) bool {
	if l, ok := s.links.get(linkItem{repository: repository, digest: d}); ok && l.index > 0 {
		return true
	}
	_, ok := s.manifests.get(manifestKey(repository, d))
	return ok
}

// putManifest puts m in the place of what the repository had by its digest, whose tags it keeps.
func (s *state) putManifest(m *Manifest) {
	old, had := s.manifests.get(manifestItem{Manifest: m})
	if had {
		s.unlist(old.Manifest)
	}
	if !had {
		s.hold(m.Descriptor.Digest, 1)
	}
	m = s.shared(m)
	s.manifests.put(manifestItem{m, old.tagged, m.Index})
	if s.loading == nil {
		s.places.put(placeItem{m})
	}
	for _, d := range m.Blobs {
		s.use(m.Repository, d, 1)
	}
	if !m.Subject.IsZero() {
		s.referrers.put(referrerItem{m.Repository, m.Subject, m.Descriptor.Digest})
	}
}

// shared is m with the state's own copies of names in it, without what is not kept.
func (s *state) shared(m *Manifest) *Manifest {
	own := *m
	own.Repository = s.repository(m.Repository)
	own.Descriptor.Digest = s.digest(m.Descriptor.Digest)
	own.Descriptor.URLs = nil
	own.Descriptor.MediaType = commonType(m.Descriptor.MediaType)
	own.Annotations = nil
	if !m.Subject.IsZero() {
		own.Annotations = maps.Clone(m.Annotations)
	}
	own.Subject = s.digest(m.Subject)
	own.Blobs = slices.Clone(m.Blobs)
	slices.SortFunc(own.Blobs, compare)
	own.Blobs = slices.Clip(slices.Compact(own.Blobs))
	for i, d := range own.Blobs {
		own.Blobs[i] = s.digest(d)
	}
	return &own
}

// commonType is the one copy of a media type that nearly all manifests have.
func commonType(text string) string {
	if i := slices.Index(oci.ManifestTypes(), text); i >= 0 {
		return oci.ManifestTypes()[i]
	}
	return text
}

// removeManifest takes away a manifest and its tags, whose tombstones it leaves.
func (s *state) removeManifest(repository string, d oci.Digest) bool {
	m, ok := s.manifests.get(manifestKey(repository, d))
	if !ok {
		return false
	}
	for _, tag := range s.tagsOf(m) {
		s.removeTag(repository, tag)
		s.bury(repository, tag)
	}
	s.unlist(m.Manifest)
	s.manifests.remove(m)
	s.places.remove(placeItem{m.Manifest})
	s.hold(d, -1)
	return true
}

// unlist takes back what putManifest noted elsewhere of m.
func (s *state) unlist(m *Manifest) {
	for _, d := range m.Blobs {
		s.use(m.Repository, d, -1)
	}
	if !m.Subject.IsZero() {
		s.referrers.remove(referrerItem{m.Repository, m.Subject, m.Descriptor.Digest})
	}
}
