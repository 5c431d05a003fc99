package catalog

import (
	"iter"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A View is the catalog as it stood after one command. It never changes; a page and the page after it come from one
// state when they are read from one View. Repositories are named by their path, without the prefix of hosted names.
type View struct{ s *state }

// A Tag is a tag with the manifest that it names.
type Tag struct {
	Name   string
	Digest oci.Digest
	Index  uint64 // of the command that set it
}

// A Link is a blob as a repository links it.
type Link struct {
	Size  int64
	Index uint64 // of the command that made it
	Since time.Time
	Used  bool // a manifest of the repository lists the blob
}

// A Pin is a name's pin.
type Pin struct {
	Name   string
	Digest oci.Digest
	Until  time.Time // zero: until it is lifted
}

// A Tombstone says that a tag or a manifest was deleted.
type Tombstone struct {
	Repository string
	Name       string // a tag or a digest
	Index      uint64 // of the command that deleted it
	Time       time.Time
}

// Index is that of the last command in the view.
func (v View) Index() uint64 { return v.s.index }

// Time is the leader's clock at the last command.
func (v View) Time() time.Time { return fromNanos(v.s.clock) }

// Tag is the manifest that a tag names.
func (v View) Tag(repository, tag string) (Tag, bool) {
	t, ok := v.s.tags.get(tagItem{repository: repository, tag: tag})
	return Tag{t.tag, t.digest, t.index}, ok
}

// Tags are up to n tags of a repository in the order of compareTags, beginning after the name after.
func (v View) Tags(repository, after string, n int) []Tag {
	var tags []Tag
	for t := range v.s.tags.from(tagItem{repository: repository, tag: after}) {
		if len(tags) >= n || t.repository != repository {
			break
		}
		if t.tag != after {
			tags = append(tags, Tag{t.tag, t.digest, t.index})
		}
	}
	return tags
}

// Repositories are up to n repositories with a manifest in the order of their bytes, beginning after the name after.
func (v View) Repositories(after string, n int) []string {
	var names []string
	next := after + "\x00" // the least name that comes after
	for len(names) < n {
		m, ok := v.s.manifests.first(manifestKey(next, oci.Digest{}))
		if !ok {
			break
		}
		names = append(names, m.Repository)
		next = m.Repository + "\x00"
	}
	return names
}

// Known tells whether a repository has a manifest or a blob.
func (v View) Known(repository string) bool {
	if m, ok := v.s.manifests.first(manifestKey(repository, oci.Digest{})); ok && m.Repository == repository {
		return true
	}
	for l := range v.s.links.from(linkItem{repository: repository}) {
		if l.repository != repository {
			break
		}
		if l.index > 0 {
			return true
		}
	}
	return false
}

// Manifest is a manifest of a repository.
func (v View) Manifest(repository string, d oci.Digest) (*Manifest, bool) {
	m, ok := v.s.manifests.get(manifestKey(repository, d))
	return m.Manifest, ok
}

// Manifests yields the manifests of all repositories, with the number of tags that name each.
func (v View) Manifests() iter.Seq2[*Manifest, int] {
	return func(yield func(*Manifest, int) bool) {
		for m := range v.s.manifests.all() {
			if !yield(m.Manifest, m.tagged) {
				return
			}
		}
	}
}

// TagsOf are the tags that name a manifest, in order.
func (v View) TagsOf(repository string, d oci.Digest) []string {
	m, ok := v.s.manifests.get(manifestKey(repository, d))
	if !ok {
		return nil
	}
	return v.s.tagsOf(m)
}

// Linked tells whether a repository links a blob.
func (v View) Linked(repository string, d oci.Digest) bool {
	_, ok := v.Link(repository, d)
	return ok
}

// Link is a blob as a repository links it.
func (v View) Link(repository string, d oci.Digest) (Link, bool) {
	l, ok := v.s.links.get(linkItem{repository: repository, digest: d})
	return l.link(), ok && l.index > 0
}

// Links yields the blobs that repositories link, with the repository.
func (v View) Links() iter.Seq2[string, LinkedBlob] {
	return func(yield func(string, LinkedBlob) bool) {
		for l := range v.s.links.all() {
			if l.index > 0 && !yield(l.repository, LinkedBlob{l.digest, l.link()}) {
				return
			}
		}
	}
}

// A LinkedBlob is a blob with its link.
type LinkedBlob struct {
	Digest oci.Digest
	Link
}

func (l linkItem) link() Link { return Link{l.size, l.index, fromNanos(l.time), l.uses > 0} }

// Referrers are the manifests of a repository whose subject is d, in the order of their digests; only those of an
// artifact type unless that is "".
func (v View) Referrers(repository string, subject oci.Digest, artifactType string) []*Manifest {
	var found []*Manifest
	for r := range v.s.referrers.from(referrerItem{repository: repository, subject: subject}) {
		if r.repository != repository || r.subject != subject {
			break
		}
		m, _ := v.s.manifests.get(manifestKey(repository, r.digest))
		if artifactType == "" || m.Descriptor.ArtifactType == artifactType {
			found = append(found, m.Manifest)
		}
	}
	return found
}

// Digests yields every digest that any repository has, as a blob or as a manifest, in order.
func (v View) Digests() iter.Seq[oci.Digest] {
	return func(yield func(oci.Digest) bool) {
		for h := range v.s.holds.all() {
			if !yield(h.digest) {
				return
			}
		}
	}
}

// Holds tells whether any repository has d, as a blob or as a manifest.
func (v View) Holds(d oci.Digest) bool {
	_, ok := v.s.holds.get(holdItem{digest: d})
	return ok
}

// Empty tells whether no repository has anything.
func (v View) Empty() bool { return v.s.holds.len() == 0 }
