package blobstore

import (
	"context"
	"fmt"
	"os"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// Put keeps a small blob whole. Bytes that are not d are an *oci.MismatchError; ErrNotKept: the disk could not take
// them. A blob that is whole already gains the link of o alone.
func (s *Store) Put(ctx context.Context, d oci.Digest, data []byte, o Origin) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put blob %s: %w", d, err)
	}
	return s.keep(d, data, o)
}

func (s *Store) keep(d oci.Digest, data []byte, o Origin) error {
	size := int64(len(data))
	l := piece.Issue(d, size, piece.SizeFor(size), s.cfg.Issuer)
	h := piece.NewHasher(l)
	for i := range l.Count() {
		off, n := l.Bounds(i)
		if err := h.Piece(data[off : off+n]); err != nil {
			return fmt.Errorf("put blob %s: %w", d, err)
		}
	}
	if _, err := s.entry(d); err == nil {
		return s.changeMeta(d, func(m meta) meta { return m.withOrigin(o) })
	}
	if err := s.put(l, data, o); err != nil {
		s.raise("blob not kept", err)
		return fmt.Errorf("put blob %s: %w: %w", d, ErrNotKept, err)
	}
	return nil
}

func (s *Store) put(l *piece.List, data []byte, o Origin) error {
	d := l.Digest()
	release, err := s.makeRoomAs(l.Size(), d, o)
	if err != nil {
		return err
	}
	defer release()
	temp, err := s.writeTemp(data)
	if err != nil && s.relieve(err, d) {
		temp, err = s.writeTemp(data)
	}
	if err != nil {
		return err
	}
	defer s.lockDigest(d)()
	m := meta{Size: l.Size()}
	if old, ok := s.metaOf(d); ok {
		m = m.merged(old)
	}
	e, err := s.place(d, temp, m.withOrigin(o))
	if err != nil {
		_ = s.remove(temp)
		return err
	}
	s.verified(e, l)
	s.index.putList(l)
	s.adopt(e)
	s.count.committed.Add(1)
	if err := s.removeIdle(d); err != nil {
		s.logError("remove partial blob", d, err)
	}
	return nil
}

// makeRoomAs makes room for a blob of what it is.
func (s *Store) makeRoomAs(need int64, d oci.Digest, o Origin) (release func(), err error) {
	if o.Hosted {
		return s.makeRoomApart(need)
	}
	return s.makeRoom(need, d)
}

// writeTemp puts data into a synced, read-only file of a name that is cleaned at the next start.
func (s *Store) writeTemp(data []byte) (name string, err error) {
	name = s.tempName()
	f, err := s.disk.open(s.root, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	err = s.disk.writeAt(f, 0, data)
	if err == nil {
		err = s.disk.syncData(f)
	}
	if err == nil {
		err = f.Chmod(0o444)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = s.remove(name)
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return name, nil
}
