package catalog

import (
	"fmt"

	"github.com/pullonce/pullonce/oci"
)

func (l LinkBlob) apply(s *state, _ *Result) error {
	s.link(linkItem{repository: l.Repository, digest: l.Digest, size: l.Size, index: s.index, time: s.clock})
	return nil
}

func (u UnlinkBlob) apply(s *state, _ *Result) error {
	l, ok := s.links.get(linkItem{repository: u.Repository, digest: u.Digest})
	switch {
	case !ok || l.index == 0:
		return notFound("blob %s in %s", u.Digest, u.Repository)
	case u.IfUnused && l.uses > 0:
		return fmt.Errorf("blob %s in %s: %w by %d manifests", u.Digest, u.Repository, ErrInUse, l.uses)
	case u.IfIndex != 0 && u.IfIndex != l.index:
		return fmt.Errorf("blob %s in %s: %w, at index %d", u.Digest, u.Repository, ErrChanged, l.index)
	}
	l.index, l.size, l.time = 0, 0, 0
	s.setLink(l)
	s.hold(u.Digest, -1)
	return nil
}

// link links a blob, or links it anew.
func (s *state) link(l linkItem) {
	old, ok := s.links.get(l)
	if !ok {
		old.repository = s.repository(l.repository)
	}
	if old.index == 0 {
		old.digest = s.hold(l.digest, 1)
	}
	l.repository, l.digest, l.uses = old.repository, old.digest, old.uses
	s.setLink(l)
}

// use counts the manifests of a repository that list a blob up or down. A link that nothing needs any more is young again:
// a push may be under way that found the blob there.
func (s *state) use(repository string, d oci.Digest, by int) {
	l, ok := s.links.get(linkItem{repository: repository, digest: d})
	if !ok {
		l = linkItem{repository: repository, digest: d}
	}
	if l.uses += by; by < 0 && l.uses == 0 && l.index > 0 {
		l.time = s.clock
	}
	s.setLink(l)
}

// setLink keeps l as long as it says anything.
func (s *state) setLink(l linkItem) {
	if l.index == 0 && l.uses == 0 {
		s.links.remove(l)
		return
	}
	s.links.put(l)
}
