package catalog

import (
	"context"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// Recovered says what came of the copies.
type Recovered struct {
	Manifests, Tags int
	// Incomplete are manifests that list others of which no copy was reported. They were left out.
	Incomplete []Copy
}

// Recover founds a new catalog on this node from the copies that holders report, for when every voter and every backup
// is lost. Of what copies say of one tag, or of one manifest in a repository, the latest holds, also when it is that it
// was deleted. A write that was begun (CopiedTag.Base) counts as done: it may have been answered. Pins and settings are
// not in copies.
func (c *Catalog) Recover(ctx context.Context, copies []Copy, force bool) (Recovered, error) {
	s, r := rebuild(copies, time.Now())
	return r, c.replace(ctx, s, force)
}

// rebuild is the state that the copies come to.
func rebuild(copies []Copy, now time.Time) (*state, Recovered) {
	s := newState()
	s.clock = toNanos(now)
	var r Recovered
	merged := MergeCopies(copies, nil)
	last := uint64(0)
	known := map[string]bool{} // manifests that there are copies of
	var pending []Copy
	for _, c := range merged {
		last = max(last, c.latest()+1) // what was begun at an index comes after it
		if c.deleted() {
			s.index = c.Index
			s.bury(c.Repository, c.Descriptor.Digest.String())
			continue
		}
		known[c.Repository+" "+c.Descriptor.Digest.String()] = true
		pending = append(pending, c)
	}
	for progress := true; progress; {
		progress = false
		pending = slices.DeleteFunc(pending, func(c Copy) bool {
			done := s.restoreCopy(c, known)
			progress = progress || done
			r.Manifests += b2i(done)
			return done
		})
	}
	r.Incomplete = pending
	r.Tags = s.restoreTags(merged)
	s.index = last + skipped // those that did not report may know of later ones
	s.settleCopies()
	return s, r
}

// deleted tells whether the manifest is gone. A tag that was set to it later says that it was put again.
func (c Copy) deleted() bool {
	return c.Gone && !slices.ContainsFunc(c.Tags, c.claims)
}

// claims tells whether a tag names the manifest, as far as this copy says. Deleting the manifest took its tags.
func (c Copy) claims(t CopiedTag) bool {
	return !t.Gone && (!c.Gone || t.Index > c.Index || t.Index == c.Index && t.Base)
}

// restoreCopy puts a manifest whose children are there.
func (s *state) restoreCopy(c Copy, known map[string]bool) bool {
	put := PutManifest{Repository: c.Repository, Descriptor: c.Descriptor, Annotations: c.Annotations, Subject: c.Subject}
	s.index = c.Index
	for _, b := range c.Blobs {
		put.Blobs = append(put.Blobs, b.Digest)
		child := lists(c.Descriptor.MediaType) || known[c.Repository+" "+b.Digest.String()]
		if child && !s.has(c.Repository, b.Digest) {
			return false
		}
	}
	if put.check() != nil {
		return false
	}
	for _, b := range c.Blobs {
		if !s.has(c.Repository, b.Digest) {
			_ = LinkBlob{Repository: c.Repository, Digest: b.Digest, Size: b.Size}.apply(s, nil) // it never fails
		}
	}
	return put.apply(s, nil) == nil
}

// lists tells whether what a manifest of that type lists are manifests.
func lists(mediaType string) bool {
	return mediaType == oci.MediaTypeOCIIndex || mediaType == oci.MediaTypeDockerList
}

// restoreTags does with each tag what the latest claim says of it.
func (s *state) restoreTags(copies []Copy) int {
	type claim struct {
		CopiedTag
		digest oci.Digest
	}
	claims := map[[2]string]claim{}
	for _, c := range copies {
		for _, t := range c.Tags {
			if !t.Gone && !c.claims(t) {
				continue
			}
			key := [2]string{c.Repository, t.Name}
			old, ok := claims[key]
			if order := t.order(old.CopiedTag); !ok || order > 0 || order == 0 && compare(c.Descriptor.Digest, old.digest) < 0 {
				claims[key] = claim{t, c.Descriptor.Digest}
			}
		}
	}
	set := 0
	for key, c := range claims {
		s.index = c.Index
		if c.Gone {
			s.bury(key[0], key[1])
			continue
		}
		put := PutTag{Repository: key[0], Tag: key[1], Digest: c.digest}
		set += b2i(put.check() == nil && put.apply(s, nil) == nil)
	}
	return set
}

// settleCopies makes what was rebuilt the whole truth about each manifest, so that copies which come back later do not
// add to it.
func (s *state) settleCopies() {
	var all []manifestItem
	for m := range s.manifests.all() {
		all = append(all, m)
	}
	for _, m := range all {
		m.changed = s.index
		s.manifests.put(m)
	}
}
