package catalog

import (
	"cmp"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// What the trees of a state hold. Texts are shared between items: a state has one copy of each repository's name and
// of each digest.
type (
	tagItem struct {
		repository, tag string
		digest          oci.Digest
		index           uint64
	}
	manifestItem struct {
		*Manifest
		tagged  int    // tags of the repository that name it
		changed uint64 // index of the last command that put it or changed which tags do
	}
	// A placeItem is a manifest too, sorted by its digest first.
	placeItem struct{ *Manifest }
	// A linkItem is there while the blob is linked or a manifest lists it.
	linkItem struct {
		repository string
		digest     oci.Digest
		size       int64
		index      uint64 // 0 while the blob is not linked
		time       int64
		uses       int // manifests of the repository that list it
	}
	// A holdItem counts the repositories that have a digest as a blob, and those that have it as a manifest.
	holdItem struct {
		digest oci.Digest
		count  int
	}
	referrerItem struct {
		repository      string
		subject, digest oci.Digest
	}
	tombItem struct {
		repository, name string // a tag, or a digest; no tag has a colon
		index            uint64
		time             int64
	}
	pinItem struct {
		name   string
		digest oci.Digest
		until  int64
	}
	leaseItem struct {
		digest oci.Digest
		node   string
		until  int64
	}
	settingItem struct {
		key   string
		value []byte
		index uint64 // of the last command that changed it, never 0
	}
	// An expiryItem is when a pin or a lease ends.
	expiryItem struct {
		at   int64
		pin  string     // or
		blob oci.Digest // of the lease
	}
)

func (a tagItem) less(b tagItem) bool {
	return a.repository < b.repository || a.repository == b.repository && compareTags(a.tag, b.tag) < 0
}

// compareTags orders tags as the distribution specification lists them: whatever their case, then by their bytes. It
// stands in the hottest tree, so it makes no text of its own.
func compareTags(a, b string) int {
	for i := range min(len(a), len(b)) {
		if c := cmp.Compare(folded(a[i]), folded(b[i])); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// folded is a letter of a tag in lower case.
func folded(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func (a manifestItem) less(b manifestItem) bool {
	c := cmp.Compare(a.Repository, b.Repository)
	return c < 0 || c == 0 && before(a.Descriptor.Digest, b.Descriptor.Digest)
}

func (a placeItem) less(b placeItem) bool {
	c := compare(a.Descriptor.Digest, b.Descriptor.Digest)
	return c < 0 || c == 0 && a.Repository < b.Repository
}

func (a linkItem) less(b linkItem) bool {
	return a.repository < b.repository || a.repository == b.repository && before(a.digest, b.digest)
}

func (a holdItem) less(b holdItem) bool { return before(a.digest, b.digest) }

func (a referrerItem) less(b referrerItem) bool {
	return cmp.Or(
		cmp.Compare(a.repository, b.repository),
		cmp.Compare(a.subject.String(), b.subject.String()),
		cmp.Compare(a.digest.String(), b.digest.String()),
	) < 0
}

func (a tombItem) less(b tombItem) bool {
	return a.repository < b.repository || a.repository == b.repository && a.name < b.name
}

// lessByName sorts by name first.
func (a tombItem) lessByName(b tombItem) bool {
	return a.name < b.name || a.name == b.name && a.repository < b.repository
}

func (a pinItem) less(b pinItem) bool         { return a.name < b.name }
func (a leaseItem) less(b leaseItem) bool     { return before(a.digest, b.digest) }
func (a settingItem) less(b settingItem) bool { return a.key < b.key }

func (a expiryItem) less(b expiryItem) bool {
	return cmp.Or(
		cmp.Compare(a.at, b.at),
		cmp.Compare(a.pin, b.pin),
		cmp.Compare(a.blob.String(), b.blob.String()),
	) < 0
}

func before(a, b oci.Digest) bool { return a.String() < b.String() }

func compare(a, b oci.Digest) int { return cmp.Compare(a.String(), b.String()) }
