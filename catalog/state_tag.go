package catalog

import "strings"

func (p PutTag) apply(s *state, _ *Result) error {
	if _, ok := s.manifests.get(manifestKey(p.Repository, p.Digest)); !ok {
		return notFound("manifest %s in %s", p.Digest, p.Repository)
	}
	s.putTag(tagItem{p.Repository, p.Tag, p.Digest, s.index})
	return nil
}

func (d DeleteTag) apply(s *state, _ *Result) error {
	if !s.removeTag(d.Repository, d.Tag) {
		return notFound("tag %s in %s", d.Tag, d.Repository)
	}
	s.bury(d.Repository, d.Tag)
	return nil
}

func (f Forget) apply(s *state, _ *Result) error {
	limit := toNanos(f.Before)
	var old []tombItem
	for t := range s.tombs.all() {
		if t.time < limit {
			old = append(old, t)
		}
	}
	for _, t := range old {
		s.unbury(t.repository, t.name)
	}
	return nil
}

// putTag sets a tag to a manifest that is there.
func (s *state) putTag(t tagItem) {
	s.untag(t)
	m, _ := s.manifests.get(manifestKey(t.repository, t.digest))
	m.tagged, m.changed = m.tagged+1, max(m.changed, t.index)
	s.manifests.put(m)
	t.repository, t.digest = m.Repository, m.Descriptor.Digest
	s.tags.put(t)
	s.unbury(t.repository, t.tag)
}

func (s *state) removeTag(repository, tag string) bool {
	t := tagItem{repository: repository, tag: tag}
	s.untag(t)
	_, ok := s.tags.remove(t)
	return ok
}

// untag counts down the manifest that a tag names up to now.
func (s *state) untag(t tagItem) {
	if old, ok := s.tags.get(t); ok {
		m, _ := s.manifests.get(manifestKey(old.repository, old.digest))
		m.tagged, m.changed = m.tagged-1, s.index
		s.manifests.put(m)
	}
}

// tagsOf are the tags that name a manifest.
func (s *state) tagsOf(m manifestItem) []string {
	var tags []string
	for t := range s.tags.from(tagItem{repository: m.Repository}) {
		if len(tags) == m.tagged || t.repository != m.Repository {
			break
		}
		if t.digest == m.Descriptor.Digest {
			tags = append(tags, t.tag)
		}
	}
	return tags
}

// bury leaves a tombstone.
func (s *state) bury(repository, name string) {
	s.putTomb(tombItem{s.repository(repository), name, s.index, s.clock})
}

func (s *state) putTomb(t tombItem) {
	s.tombs.put(t)
	if t.ofManifest() {
		s.graves.put(t)
	}
}

// unbury takes a tombstone away, if there is one.
func (s *state) unbury(repository, name string) {
	t := tombItem{repository: repository, name: name}
	s.tombs.remove(t)
	if t.ofManifest() {
		s.graves.remove(t)
	}
}

// ofManifest tells the tombstones of manifests from those of tags.
func (t tombItem) ofManifest() bool { return strings.Contains(t.name, ":") }
