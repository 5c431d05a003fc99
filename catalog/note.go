package catalog

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// MaxNote bounds a note, in bytes.
const MaxNote = 1 << 20

// maxIndex is more than any log comes to.
const maxIndex = 1 << 62

// EncodeCopies is the note that says what copies say, or nil when they say nothing. The same copies give the same
// bytes, in whatever order they come. A note that would be larger than MaxNote lacks what is oldest.
func EncodeCopies(copies []Copy) []byte {
	copies = MergeCopies(copies, nil)
	for len(copies) > 0 {
		raw := marshal(noteOf(copies))
		if len(raw) <= MaxNote {
			return raw
		}
		copies = newerHalf(copies)
	}
	return nil
}

// newerHalf leaves out about half of what sorted copies say, the older one.
func newerHalf(copies []Copy) []Copy {
	if len(copies) > 1 {
		slices.SortStableFunc(copies, func(a, b Copy) int { return cmp.Compare(b.latest(), a.latest()) })
		return mergeAll(copies[:len(copies)/2])
	}
	c := &copies[0]
	switch {
	case len(c.Tags) > 0:
		slices.SortStableFunc(c.Tags, func(a, b CopiedTag) int { return b.order(a) })
		c.Tags, c.AsOf = c.Tags[:len(c.Tags)/2], 0
		return mergeAll(copies)
	case len(c.Annotations) > 0:
		c.Annotations = nil
		return copies
	}
	return nil // no command carries that much
}

// latest is the index of the last that c tells of.
func (c Copy) latest() uint64 {
	last := max(c.Index, c.AsOf)
	for _, t := range c.Tags {
		last = max(last, t.Index)
	}
	return last
}

// noteOf is copies as they are written: what a manifest lists stands there once.
func noteOf(copies []Copy) *catalogpb.Note {
	note := &catalogpb.Note{}
	places := map[string]uint32{}
	for _, c := range copies {
		m := noteManifest(c)
		key := string(marshal(m))
		at, ok := places[key]
		if !ok {
			at = uint32(len(note.Manifests))
			places[key] = at
			note.Manifests = append(note.Manifests, m)
		}
		p := &catalogpb.NotePlace{Repository: c.Repository, Manifest: at, Index: c.Index, Gone: c.Gone, AsOf: c.AsOf}
		for _, t := range c.Tags {
			p.Tags = append(p.Tags, &catalogpb.NoteTag{Name: t.Name, Index: t.Index, Gone: t.Gone, Base: t.Base})
		}
		note.Places = append(note.Places, p)
	}
	return note
}

func noteManifest(c Copy) *catalogpb.NoteManifest {
	m := &catalogpb.NoteManifest{
		Digest: rawDigest(c.Descriptor.Digest), MediaType: c.Descriptor.MediaType, Size: c.Descriptor.Size,
		ArtifactType: c.Descriptor.ArtifactType, Annotations: c.Annotations, Subject: rawDigest(c.Subject),
	}
	for _, b := range c.Blobs {
		m.Blobs = append(m.Blobs, &catalogpb.NoteBlob{Digest: rawDigest(b.Digest), Size: b.Size})
	}
	return m
}

// rawDigest is the hash of d, whose length tells the algorithm; nil for the zero Digest.
func rawDigest(d oci.Digest) []byte {
	raw, _ := hex.DecodeString(d.Hex()) // it was parsed
	return raw
}

func readRawDigest(raw []byte) (oci.Digest, error) {
	algorithm := oci.SHA256
	if len(raw) == 64 {
		algorithm = oci.SHA512
	}
	return oci.ParseDigest(algorithm + ":" + hex.EncodeToString(raw))
}

// DecodeCopies reads what EncodeCopies wrote, in this or another release; an empty note says nothing. The error is
// oci.ErrTooLarge beyond MaxNote, and ErrNoteInvalid for what no release writes. Copies of one manifest share what it
// lists: it is not to be changed.
func DecodeCopies(note []byte) ([]Copy, error) {
	if len(note) > MaxNote {
		return nil, fmt.Errorf("%w: note of %d bytes, the limit is %d", oci.ErrTooLarge, len(note), MaxNote)
	}
	p := &catalogpb.Note{}
	if err := proto.Unmarshal(note, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoteInvalid, err)
	}
	manifests := make([]Copy, len(p.GetManifests()))
	for i, m := range p.GetManifests() {
		var err error
		if manifests[i], err = readNoteManifest(m); err != nil {
			return nil, fmt.Errorf("%w: manifest %d: %w", ErrNoteInvalid, i, err)
		}
	}
	copies := make([]Copy, 0, len(p.GetPlaces()))
	for i, place := range p.GetPlaces() {
		if int64(place.GetManifest()) >= int64(len(manifests)) {
			return nil, fmt.Errorf("%w: place %d has manifest %d of %d", ErrNoteInvalid, i, place.GetManifest(), len(manifests))
		}
		c, err := readPlaceInto(manifests[place.GetManifest()], place)
		if err != nil {
			return nil, fmt.Errorf("%w: place %d: %w", ErrNoteInvalid, i, err)
		}
		copies = append(copies, c)
	}
	return mergeAll(copies), nil
}

// readNoteManifest is a copy without its place.
func readNoteManifest(m *catalogpb.NoteManifest) (c Copy, err error) {
	if c.Descriptor.Digest, err = readRawDigest(m.GetDigest()); err != nil {
		return c, err
	}
	if len(m.GetSubject()) > 0 {
		if c.Subject, err = readRawDigest(m.GetSubject()); err != nil {
			return c, err
		}
	}
	if m.GetSize() < 0 {
		return c, fmt.Errorf("it has %d bytes", m.GetSize())
	}
	c.Descriptor.MediaType, c.Descriptor.Size, c.Descriptor.ArtifactType = m.GetMediaType(), m.GetSize(), m.GetArtifactType()
	if len(m.GetAnnotations()) > 0 {
		c.Annotations = m.GetAnnotations()
	}
	for _, b := range m.GetBlobs() {
		d, err := readRawDigest(b.GetDigest())
		if err != nil {
			return c, err
		}
		if b.GetSize() < 0 {
			return c, fmt.Errorf("its blob %s has %d bytes", d, b.GetSize())
		}
		c.Blobs = append(c.Blobs, CopiedBlob{d, b.GetSize()})
	}
	return c, nil
}

// readPlaceInto is a copy whose manifest is m's.
func readPlaceInto(m Copy, p *catalogpb.NotePlace) (Copy, error) {
	m.Repository, m.Index, m.Gone, m.AsOf = p.GetRepository(), p.GetIndex(), p.GetGone(), p.GetAsOf()
	if err := checkName(m.Repository); err != nil {
		return m, err
	}
	if m.Index > maxIndex || m.AsOf > maxIndex {
		return m, fmt.Errorf("index %d as of %d", m.Index, m.AsOf)
	}
	for _, t := range p.GetTags() {
		if t.GetIndex() > maxIndex {
			return m, fmt.Errorf("tag %s at %d", t.GetName(), t.GetIndex())
		}
		if err := oci.CheckTag(t.GetName()); err != nil {
			return m, err
		}
		m.Tags = append(m.Tags, CopiedTag{Name: t.GetName(), Index: t.GetIndex(), Gone: t.GetGone(), Base: t.GetBase()})
	}
	return m, nil
}
