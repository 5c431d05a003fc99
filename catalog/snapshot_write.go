package catalog

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// A snapshot begins with snapshotMagic, whose last byte is the version of the format. Records follow, each with its
// length before it as a varint, the head first; a length of 0 ends them. The SHA-256 of all that comes last.
const snapshotMagic = "p2pcatl\x01"

// WriteTo writes the state as a snapshot. The same state gives the same bytes.
func (v View) WriteTo(w io.Writer) (int64, error) {
	out := newRecordWriter(w)
	out.write([]byte(snapshotMagic))
	v.s.records(out.record)
	out.write([]byte{0})
	out.write(out.sum.Sum(nil))
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return out.n, fmt.Errorf("write snapshot of the catalog: %w", out.err)
	}
	return out.n, nil
}

// A recordWriter keeps the first error and writes nothing after it.
type recordWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	n   int64
	err error
}

func newRecordWriter(w io.Writer) *recordWriter {
	return &recordWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
}

func (o *recordWriter) write(data []byte) {
	if o.err != nil {
		return
	}
	_, _ = o.sum.Write(data)
	n, err := o.w.Write(data)
	o.n, o.err = o.n+int64(n), err
}

// record writes one record; false when there is no use in going on.
func (o *recordWriter) record(r *catalogpb.Record) bool {
	raw := marshal(r)
	o.write(binary.AppendUvarint(nil, uint64(len(raw))))
	o.write(raw)
	return o.err == nil
}

// records yields all that a state cannot be rebuilt without, in the order in which it can be read again.
func (s *state) records(yield func(*catalogpb.Record) bool) {
	head := &catalogpb.Head{Index: s.index, Time: s.clock}
	_ = yield(&catalogpb.Record{Record: &catalogpb.Record_Head{Head: head}}) &&
		s.links.each(yield, linkItem.record) &&
		s.manifests.each(yield, manifestItem.record) &&
		s.tags.each(yield, tagItem.record) &&
		s.tombs.each(yield, tombItem.record) &&
		s.pins.each(yield, pinItem.record) &&
		s.leases.each(yield, leaseItem.record) &&
		s.settings.each(yield, settingItem.record)
}

// each yields the records of all items that have one; false when it was told to stop.
func (t tree[T]) each(yield func(*catalogpb.Record) bool, record func(T) *catalogpb.Record) bool {
	for item := range t.all() {
		if r := record(item); r != nil && !yield(r) {
			return false
		}
	}
	return true
}

func (l linkItem) record() *catalogpb.Record {
	if l.index == 0 { // the manifests that list it say as much
		return nil
	}
	return &catalogpb.Record{Record: &catalogpb.Record_Link{Link: &catalogpb.Link{
		Repository: l.repository, Digest: l.digest.String(), Size: l.size, Index: l.index, Time: l.time,
	}}}
}

func (m manifestItem) record() *catalogpb.Record {
	p := m.message()
	if m.changed > m.Index {
		p.Changed = m.changed
	}
	return &catalogpb.Record{Record: &catalogpb.Record_Manifest{Manifest: p}}
}

func (t tagItem) record() *catalogpb.Record {
	return &catalogpb.Record{Record: &catalogpb.Record_Tag{Tag: &catalogpb.Tag{
		Repository: t.repository, Tag: t.tag, Digest: t.digest.String(), Index: t.index,
	}}}
}

func (t tombItem) record() *catalogpb.Record {
	return &catalogpb.Record{Record: &catalogpb.Record_Tombstone{Tombstone: &catalogpb.Tombstone{
		Repository: t.repository, Name: t.name, Index: t.index, Time: t.time,
	}}}
}

func (p pinItem) record() *catalogpb.Record {
	return &catalogpb.Record{Record: &catalogpb.Record_Pin{Pin: &catalogpb.Pin{
		Name: p.name, Digest: p.digest.String(), Until: p.until,
	}}}
}

func (l leaseItem) record() *catalogpb.Record {
	return &catalogpb.Record{Record: &catalogpb.Record_Lease{Lease: &catalogpb.Lease{
		Digest: l.digest.String(), Node: l.node, Until: l.until,
	}}}
}

func (c settingItem) record() *catalogpb.Record {
	return &catalogpb.Record{Record: &catalogpb.Record_Setting{Setting: &catalogpb.Setting{Key: c.key, Value: c.value, Index: c.index}}}
}
