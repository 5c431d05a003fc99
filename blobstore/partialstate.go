package blobstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// stateMagic begins the state file of a partial blob; another layout gets another number.
const stateMagic = "pullonce partial 1\n"

// maxStateBytes bounds a state file that is read: the list of the largest blob, and links.
const maxStateBytes = 64 << 20

// A partialState is what is kept on disk beside the bytes of a partial blob. A piece in has was on disk, synced, before
// the state was written.
type partialState struct {
	list  *piece.List
	has   *piece.Bitmap
	ahead extents
	meta  meta
}

func (st partialState) marshal() []byte {
	list, err := st.list.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("blobstore: piece list not written: %v", err)) // memory only
	}
	body := appendPart(nil, list)
	body = appendPart(body, st.has.Bytes())
	body = binary.BigEndian.AppendUint32(body, uint32(len(st.ahead)))
	for _, x := range st.ahead {
		body = binary.BigEndian.AppendUint64(body, uint64(x.from))
		body = binary.BigEndian.AppendUint64(body, uint64(x.to))
	}
	body = append(body, st.meta.marshal()...)
	return append([]byte(stateMagic), seal(body)...)
}

// parseState reads a state file, of which a crash or a bad disk may have left anything.
func parseState(raw []byte) (partialState, error) {
	raw, ok := bytes.CutPrefix(raw, []byte(stateMagic))
	if !ok {
		return partialState{}, fmt.Errorf("state of a partial blob: no magic")
	}
	if raw, ok = unseal(raw); !ok {
		return partialState{}, fmt.Errorf("state of a partial blob: checksum does not hold")
	}
	rawList, raw, ok1 := cutPart(raw)
	rawBits, raw, ok2 := cutPart(raw)
	ahead, raw, ok3 := cutExtents(raw)
	if !ok1 || !ok2 || !ok3 {
		return partialState{}, fmt.Errorf("state of a partial blob cut short")
	}
	list, err := piece.UnmarshalList(rawList)
	if err != nil {
		return partialState{}, err
	}
	has, err := piece.BitmapFromBytes(list.Count(), rawBits)
	if err != nil {
		return partialState{}, err
	}
	m, err := parseMeta(raw)
	if err != nil {
		return partialState{}, err
	}
	if n := len(ahead); n > 0 && ahead[n-1].to > list.Size() {
		return partialState{}, fmt.Errorf("state of a partial blob: bytes past its end")
	}
	return partialState{list: list, has: has, ahead: ahead, meta: m}, nil
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

func cutPart(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if uint64(len(b)) < 4+n {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

func cutExtents(b []byte) (extents, []byte, bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n > uint64(len(b))/16 {
		return nil, nil, false
	}
	var all extents
	last := int64(-1)
	for range n {
		x := extent{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
		if x.from <= last || x.from < 0 || x.to <= x.from {
			return nil, nil, false
		}
		all, last, b = append(all, x), x.to, b[16:]
	}
	return all, b, true
}

// readState reads the state of d's partial blob from disk.
func (s *Store) readState(d oci.Digest) (partialState, error) {
	raw, err := s.readFile(partialPath(d, infoSuffix), maxStateBytes)
	if err != nil {
		return partialState{}, err
	}
	st, err := parseState(raw)
	if err == nil && st.list.Digest() != d {
		err = fmt.Errorf("state of partial blob %s is that of %s", d, st.list.Digest())
	}
	return st, err
}

func (s *Store) readFile(name string, limit int64) ([]byte, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return raw, err
}

// An idlePartial is a partial blob on disk that nobody has open.
type idlePartial struct {
	meta    meta
	bytes   int64 // of its pieces
	lastUse time.Time
}

func (s *Store) setIdle(d oci.Digest, st partialState) {
	idle := &idlePartial{meta: st.meta, bytes: pieceBytes(st.list, st.has), lastUse: time.Now()}
	s.mu.Lock()
	s.idle[d] = idle
	s.mu.Unlock()
}

func pieceBytes(l *piece.List, has *piece.Bitmap) int64 {
	n := int64(has.Count()) * l.PieceSize()
	if last := l.Count() - 1; has.Has(last) {
		_, length := l.Bounds(last)
		n -= l.PieceSize() - length
	}
	return n
}

// removeIdle removes a partial blob that nobody has open.
func (s *Store) removeIdle(d oci.Digest) error {
	s.mu.Lock()
	idle := s.idle[d]
	delete(s.idle, d)
	s.mu.Unlock()
	if idle == nil {
		return nil
	}
	return s.removePartialFiles(d)
}

// removePartialFiles removes the state first: bytes without a state are nothing.
func (s *Store) removePartialFiles(d oci.Digest) error {
	if err := s.remove(partialPath(d, infoSuffix)); err != nil {
		return err
	}
	return s.remove(partialPath(d, dataSuffix))
}

func (s *Store) rewriteIdleMeta(d oci.Digest, change func(meta) meta) error {
	st, err := s.readState(d)
	if err != nil {
		return fmt.Errorf("link partial blob %s: %w", d, err)
	}
	st.meta = change(st.meta)
	if err := s.replace(partialPath(d, infoSuffix), st.marshal(), true); err != nil {
		s.raise("state of a partial blob not written", err)
	}
	return nil
}

// save puts the state down when it has changed: first the bytes, then the set of pieces, so that a power cut never
// leaves a mark without its bytes.
func (p *Partial) save() {
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	if !p.dirty || p.gone || p.file == nil {
		p.mu.Unlock()
		return
	}
	st := p.state()
	p.dirty = false
	p.mu.Unlock()
	if err := p.store.disk.syncData(p.file); err != nil {
		p.distrust()
		p.toMemory(err)
		return
	}
	if err := p.store.replace(partialPath(p.list.Digest(), infoSuffix), st.marshal(), true); err != nil {
		p.store.raise("state of a partial blob not written", err)
		p.mu.Lock()
		p.dirty = true
		p.mu.Unlock()
	}
}

// state is what is on disk of p. The list may already know more than the pieces need. The caller holds mu.
func (p *Partial) state() partialState {
	has := p.good.Clone()
	for i := p.stale.Next(0); i >= 0; i = p.stale.Next(i + 1) {
		has.Set(i)
	}
	if p.window != nil {
		for i := range p.window.pieces {
			has.Clear(i)
		}
	}
	return partialState{list: p.list, has: has, ahead: append(extents(nil), p.ahead...), meta: p.meta}
}

// distrust has all pieces on disk checked again before their next use: a sync failed, after which the kernel may have
// dropped what was written.
func (p *Partial) distrust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := p.good.Next(0); i >= 0; i = p.good.Next(i + 1) {
		if p.inWindow(i) == nil {
			p.good.Clear(i)
			p.stale.Set(i)
		}
	}
	p.wake()
}
