package catalog

import (
	"fmt"

	"github.com/pullonce/pullonce/oci"
)

// A Manifest is what the catalog keeps of a hosted manifest. It is not to be changed.
type Manifest struct {
	Repository  string
	Descriptor  oci.Descriptor
	Annotations map[string]string // only of a manifest with a subject
	Subject     oci.Digest        // zero for none
	Blobs       []oci.Digest      // what it lists: config and layers, or other manifests
	Index       uint64            // of the command that put it
}

// A state is what the commands up to an index came to. A copy of a sealed one may be changed without the other
// noticing.
type state struct {
	index uint64 // of the last command
	clock int64  // of the last command that had a time; a new leader's may lie before it

	tags      tree[tagItem]
	manifests tree[manifestItem]
	links     tree[linkItem]
	tombs     tree[tombItem]
	pins      tree[pinItem]
	leases    tree[leaseItem]
	settings  tree[settingItem]

	// What follows can be had from the trees above, and is in no snapshot.
	holds     tree[holdItem]
	places    tree[placeItem] // the manifests
	graves    tree[tombItem]  // the tombs of manifests
	referrers tree[referrerItem]
	expiries  tree[expiryItem]

	// loading stands in for holds and places while a snapshot is read: a map takes a third of the time.
	loading map[oci.Digest]*holdItem
}

func newState() *state {
	return &state{
		tags:      newTree(tagItem.less),
		manifests: newTree(manifestItem.less),
		links:     newTree(linkItem.less),
		tombs:     newTree(tombItem.less),
		pins:      newTree(pinItem.less),
		leases:    newTree(leaseItem.less),
		settings:  newTree(settingItem.less),
		holds:     newTree(holdItem.less),
		places:    newTree(placeItem.less),
		graves:    newTree(tombItem.lessByName),
		referrers: newTree(referrerItem.less),
		expiries:  newTree(expiryItem.less),
	}
}

// seal makes s fit to be read by others and to be copied.
func (s *state) seal() {
	s.tags.seal()
	s.manifests.seal()
	s.links.seal()
	s.tombs.seal()
	s.pins.seal()
	s.leases.seal()
	s.settings.seal()
	s.holds.seal()
	s.places.seal()
	s.graves.seal()
	s.referrers.seal()
	s.expiries.seal()
}

// apply carries out a command. A command that is refused leaves only index and clock behind.
func (s *state) apply(index uint64, c Command) Result {
	s.advance(index, toNanos(c.Time))
	r := Result{Index: index}
	r.Err = c.Do.apply(s, &r)
	return r
}

// advance goes on to the next command, and ends what has expired by its clock.
func (s *state) advance(index uint64, clock int64) {
	s.index = index
	if clock != 0 {
		s.clock = clock
	}
	for {
		e, ok := s.expiries.items.Min()
		if !ok || e.at > s.clock {
			return
		}
		if e.pin != "" {
			s.removePin(e.pin)
		} else {
			s.removeLease(e.blob)
		}
	}
}

// repository is the state's own copy of a repository's name.
func (s *state) repository(name string) string {
	if l, ok := s.links.first(linkItem{repository: name}); ok && l.repository == name {
		return l.repository
	}
	if m, ok := s.manifests.first(manifestKey(name, oci.Digest{})); ok && m.Repository == name {
		return m.Repository
	}
	return name
}

// digest is the state's own copy of a digest.
func (s *state) digest(d oci.Digest) oci.Digest {
	if s.loading != nil {
		if h := s.loading[d]; h != nil {
			return h.digest
		}
		return d
	}
	if h, ok := s.holds.get(holdItem{digest: d}); ok {
		return h.digest
	}
	return d
}

// hold counts the repositories that have d up or down, and returns the state's own copy of d.
func (s *state) hold(d oci.Digest, by int) oci.Digest {
	if s.loading != nil {
		return s.holdLoaded(d, by)
	}
	h, ok := s.holds.get(holdItem{digest: d})
	if !ok {
		h.digest = d
	}
	h.count += by
	if h.count > 0 {
		s.holds.put(h)
	} else {
		s.holds.remove(h)
	}
	return h.digest
}

// manifestKey is what compares like the manifest of that digest.
func manifestKey(repository string, d oci.Digest) manifestItem {
	return manifestItem{Manifest: &Manifest{Repository: repository, Descriptor: oci.Descriptor{Digest: d}}}
}

func notFound(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), oci.ErrNotFound)
}
