package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

var errTwice = errors.New("it is there twice")

// beginLoad makes s, which is new, ready for load.
func (s *state) beginLoad() { s.loading = make(map[oci.Digest]*holdItem) }

// endLoad makes s a state like any other.
func (s *state) endLoad() {
	held := slices.Collect(maps.Values(s.loading))
	slices.SortFunc(held, func(a, b *holdItem) int { return compare(a.digest, b.digest) })
	s.loading = nil
	placed := make([]placeItem, 0, s.manifests.len())
	for m := range s.manifests.all() {
		placed = append(placed, placeItem{m.Manifest})
	}
	slices.SortFunc(placed, func(a, b placeItem) int {
		return cmp.Or(compare(a.Descriptor.Digest, b.Descriptor.Digest), cmp.Compare(a.Repository, b.Repository))
	})
	for _, p := range placed {
		s.places.put(p)
	}
	for _, h := range held {
		s.holds.put(*h)
	}
}

// holdLoaded is hold while a snapshot is read.
func (s *state) holdLoaded(d oci.Digest, by int) oci.Digest {
	h := s.loading[d]
	if h == nil {
		h = &holdItem{digest: d}
		s.loading[d] = h
	}
	h.count += by
	return h.digest
}

// load adds what a record says.
func (s *state) load(r *catalogpb.Record) error {
	switch r := r.GetRecord().(type) {
	case *catalogpb.Record_Head:
		s.index, s.clock = r.Head.GetIndex(), r.Head.GetTime()
		return nil
	case *catalogpb.Record_Link:
		return s.loadLink(r.Link)
	case *catalogpb.Record_Manifest:
		return s.loadManifest(r.Manifest)
	case *catalogpb.Record_Tag:
		return s.loadTag(r.Tag)
	case *catalogpb.Record_Tombstone:
		return s.loadTombstone(r.Tombstone)
	case *catalogpb.Record_Pin:
		return s.loadPin(r.Pin)
	case *catalogpb.Record_Lease:
		return s.loadLease(r.Lease)
	case *catalogpb.Record_Setting:
		return s.loadSetting(r.Setting)
	}
	return errors.New("it says nothing")
}

func (s *state) loadLink(p *catalogpb.Link) error {
	d, err := readDigest(p.GetDigest())
	if err != nil {
		return err
	}
	if err := (LinkBlob{p.GetRepository(), d, p.GetSize()}).check(); err != nil {
		return err
	}
	l := linkItem{repository: p.GetRepository(), digest: d, size: p.GetSize(), index: p.GetIndex(), time: p.GetTime()}
	if l.index == 0 {
		return errors.New("link without an index")
	}
	if old, ok := s.links.get(l); ok && old.index != 0 {
		return errTwice
	}
	s.link(l)
	return nil
}

func (s *state) loadManifest(p *catalogpb.Manifest) error {
	m, err := readManifest(p)
	if err != nil {
		return err
	}
	put := PutManifest{Repository: m.Repository, Descriptor: m.Descriptor, Annotations: m.Annotations, Blobs: m.Blobs}
	if err := put.check(); err != nil {
		return err
	}
	if _, ok := s.manifests.get(manifestItem{Manifest: m}); ok {
		return errTwice
	}
	s.putManifest(m)
	if changed := p.GetChanged(); changed > m.Index {
		item, _ := s.manifests.get(manifestItem{Manifest: m})
		item.changed = changed
		s.manifests.put(item)
	}
	return nil
}

func (s *state) loadTag(p *catalogpb.Tag) error {
	d, err := readDigest(p.GetDigest())
	if err != nil {
		return err
	}
	if err := (PutTag{p.GetRepository(), p.GetTag(), d}).check(); err != nil {
		return err
	}
	t := tagItem{p.GetRepository(), p.GetTag(), d, p.GetIndex()}
	if _, ok := s.tags.get(t); ok {
		return errTwice
	}
	if _, ok := s.manifests.get(manifestKey(t.repository, d)); !ok {
		return fmt.Errorf("tag of %s, which %s does not have", d, t.repository)
	}
	s.putTag(t)
	return nil
}

func (s *state) loadTombstone(p *catalogpb.Tombstone) error {
	t := tombItem{s.repository(p.GetRepository()), p.GetName(), p.GetIndex(), p.GetTime()}
	if _, err := oci.ParseReference(t.name); err != nil {
		return err
	}
	if _, ok := s.tombs.get(t); ok {
		return errTwice
	}
	s.putTomb(t)
	return checkName(t.repository)
}

func (s *state) loadPin(p *catalogpb.Pin) error {
	d, err := readDigest(p.GetDigest())
	if err != nil {
		return err
	}
	if _, ok := s.pins.get(pinItem{name: p.GetName()}); ok {
		return errTwice
	}
	s.putPin(pinItem{p.GetName(), s.digest(d), p.GetUntil()})
	return checkNames(p.GetName(), d)
}

func (s *state) loadLease(p *catalogpb.Lease) error {
	d, err := readDigest(p.GetDigest())
	if err != nil {
		return err
	}
	if _, ok := s.leases.get(leaseItem{digest: d}); ok {
		return errTwice
	}
	s.putLease(leaseItem{s.digest(d), p.GetNode(), p.GetUntil()})
	return checkNames(p.GetNode(), d)
}

func (s *state) loadSetting(p *catalogpb.Setting) error {
	c := SetSetting{p.GetKey(), p.GetValue()}
	if err := c.check(); err != nil {
		return err
	}
	if len(c.Value) == 0 {
		return errors.New("setting without a value")
	}
	if _, ok := s.settings.get(settingItem{key: c.Key}); ok {
		return errTwice
	}
	s.settings.put(settingItem{c.Key, c.Value, max(firstIndex, p.GetIndex())})
	return nil
}
