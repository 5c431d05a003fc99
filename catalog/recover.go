package catalog

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A Copy is what lies beside one copy of a hosted manifest.
type Copy struct {
	Repository  string
	Descriptor  oci.Descriptor
	Annotations map[string]string
	Subject     oci.Digest
	Blobs       []CopiedBlob // what the manifest lists
	Index       uint64       // of the command that put the manifest
	Tags        []CopiedTag
}

// A CopiedBlob is a blob that a manifest lists, with its size.
type CopiedBlob struct {
	Digest oci.Digest
	Size   int64
}

// A CopiedTag is a tag with the index of the command that set it.
type CopiedTag struct {
	Name  string
	Index uint64
}

// Recovered says what came of the copies.
type Recovered struct {
	Manifests, Tags int
	// Incomplete are manifests that list others of which no copy was reported. They were left out.
	Incomplete []Copy
}

// Recover founds a new catalog on this node from the copies that holders report, for when every voter and every backup
// is lost. Of a tag that two manifests claim, the later index wins. Pins and settings are not in copies.
func (c *Catalog) Recover(ctx context.Context, copies []Copy, force bool) (Recovered, error) {
	s, r := rebuild(copies, time.Now())
	return r, c.replace(ctx, s, force)
}

// rebuild is the state that the copies come to.
func rebuild(copies []Copy, now time.Time) (*state, Recovered) {
	s := newState()
	var r Recovered
	for _, c := range copies {
		s.index = max(s.index, c.Index)
		for _, t := range c.Tags {
			s.index = max(s.index, t.Index)
		}
	}
	s.clock = toNanos(now)
	last := s.index
	pending := slices.Clone(copies)
	slices.SortStableFunc(pending, func(a, b Copy) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), compare(a.Descriptor.Digest, b.Descriptor.Digest), cmp.Compare(b.Index, a.Index))
	})
	pending = slices.CompactFunc(pending, mergeCopies)
	known := map[string]bool{} // manifests that there are copies of
	for _, c := range pending {
		known[c.Repository+" "+c.Descriptor.Digest.String()] = true
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
	r.Tags = s.restoreTags(copies)
	s.index = last
	return s, r
}

// mergeCopies tells whether b is another copy of a's manifest. Their tags are read from all.
func mergeCopies(a, b Copy) bool {
	return a.Repository == b.Repository && a.Descriptor.Digest == b.Descriptor.Digest
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

// restoreTags sets each tag to the manifest that claims it with the highest index.
func (s *state) restoreTags(copies []Copy) int {
	type claim struct {
		digest oci.Digest
		index  uint64
	}
	claims := map[[2]string]claim{}
	for _, c := range copies {
		for _, t := range c.Tags {
			key := [2]string{c.Repository, t.Name}
			if old, ok := claims[key]; !ok || t.Index > old.index || t.Index == old.index && compare(c.Descriptor.Digest, old.digest) < 0 {
				claims[key] = claim{c.Descriptor.Digest, t.Index}
			}
		}
	}
	set := 0
	for key, c := range claims {
		s.index = c.index
		put := PutTag{Repository: key[0], Tag: key[1], Digest: c.digest}
		set += b2i(put.check() == nil && put.apply(s, nil) == nil)
	}
	return set
}
