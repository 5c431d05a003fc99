package catalog

import (
	"cmp"
	"slices"

	"github.com/pullonce/pullonce/oci"
)

// A Copy is what lies beside one copy of a hosted manifest: what is needed to rebuild its place in one repository.
//
// Indexes are those of commands in the catalog's log, so that of two things that copies say of one tag or manifest the
// later one holds. What a copy says is a claim: a holder that was away may have an old one.
type Copy struct {
	Repository  string
	Descriptor  oci.Descriptor // without URLs
	Annotations map[string]string
	Subject     oci.Digest
	Blobs       []CopiedBlob // what the manifest lists
	// Index is that of the command that put the manifest; in what is written before that command, the index that was
	// current then (Catalog.Index).
	Index uint64
	// Gone says that the manifest was deleted from the repository, at Index. Of the rest only the digest matters.
	Gone bool
	// AsOf says that Tags has all that named the manifest after the command of that index: what an older copy says
	// beyond that is over. 0 for a copy that only adds.
	AsOf uint64
	Tags []CopiedTag
}

// A CopiedBlob is a blob that a manifest lists, with its size.
type CopiedBlob struct {
	Digest oci.Digest
	Size   int64
}

// A CopiedTag is a tag with the index of the command that set it to the copy's manifest.
type CopiedTag struct {
	Name  string
	Index uint64
	// Gone says that the tag was deleted at Index.
	Gone bool
	// Base says that the command was not done yet when this was written: Index is the one that was current before it.
	// Such a claim comes after all of Index and before all that is later, and stays until a later one takes its place.
	Base bool
}

// order compares claims of one tag: the later one is the greater.
func (t CopiedTag) order(u CopiedTag) int {
	return cmp.Or(cmp.Compare(t.Index, u.Index), cmp.Compare(b2i(t.Base), b2i(u.Base)), cmp.Compare(b2i(u.Gone), b2i(t.Gone)))
}

// MergeCopies is what two notes of one manifest, or of several, say together: of each repository and digest one copy,
// and of each tag the latest claim. Tags that one of them must have missed (Copy.AsOf) are left out. Neither argument is
// changed; the result is sorted, and the same whichever of the two comes first.
func MergeCopies(old, later []Copy) []Copy {
	all := make([]Copy, 0, len(old)+len(later))
	for _, c := range slices.Concat(old, later) {
		c.Tags = slices.Clone(c.Tags)
		all = append(all, c)
	}
	return mergeAll(all)
}

// mergeAll merges copies in place.
func mergeAll(all []Copy) []Copy {
	slices.SortStableFunc(all, func(a, b Copy) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), compare(a.Descriptor.Digest, b.Descriptor.Digest))
	})
	merged := all[:0]
	for i := 0; i < len(all); {
		end := i + 1
		for end < len(all) && all[end].Repository == all[i].Repository && all[end].Descriptor.Digest == all[i].Descriptor.Digest {
			end++
		}
		merged = append(merged, mergeOne(all[i:end]))
		i = end
	}
	return merged
}

// mergeOne merges copies of one manifest in one repository.
func mergeOne(copies []Copy) Copy {
	best := copies[0]
	for _, c := range copies[1:] {
		if c.newer(best) {
			best, c = c, best
		}
		if !best.described() && c.described() {
			best.Descriptor, best.Annotations, best.Subject, best.Blobs = c.Descriptor, c.Annotations, c.Subject, c.Blobs
		}
		best.AsOf = max(best.AsOf, c.AsOf)
	}
	best.Tags = mergeTags(copies, best.AsOf)
	return best
}

// newer tells whether c holds rather than b. A put that began at the index of a deletion comes after it.
func (c Copy) newer(b Copy) bool {
	if c.Index != b.Index || c.Gone != b.Gone {
		return c.Index > b.Index || c.Index == b.Index && b.Gone
	}
	return c.AsOf > b.AsOf
}

// described tells whether c says more of the manifest than its digest.
func (c Copy) described() bool { return c.Descriptor.MediaType != "" || len(c.Blobs) > 0 }

// mergeTags are the latest claims, in order. What is no later than asOf must be in a copy of that state to count,
// unless it is a write that may still have come to pass, or a deletion, which tells other manifests' copies something.
func mergeTags(copies []Copy, asOf uint64) []CopiedTag {
	latest := map[string]CopiedTag{}
	for _, c := range copies {
		for _, t := range c.Tags {
			if t.Index <= asOf && c.AsOf < asOf && !t.Base && !t.Gone {
				continue
			}
			if old, ok := latest[t.Name]; !ok || t.order(old) > 0 {
				latest[t.Name] = t
			}
		}
	}
	tags := make([]CopiedTag, 0, len(latest))
	for _, t := range latest {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, func(a, b CopiedTag) int { return cmp.Compare(a.Name, b.Name) })
	return slices.Clip(tags)
}
