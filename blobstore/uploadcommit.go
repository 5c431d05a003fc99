package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// Commit makes the upload the whole blob d: checked, synced, renamed, its directory synced, and only then known. Bytes
// that are not d are an *oci.MismatchError, and nothing can be seen of them; ErrNotKept: the disk could not take it.
// After an error the upload stands where it stood. Afterwards only Close may be called.
func (u *Upload) Commit(ctx context.Context, d oci.Digest, o Origin) error {
	if err := u.usable(); err != nil {
		return u.errorf("commit", err)
	}
	l, err := u.listAs(ctx, d)
	if err != nil {
		return u.errorf("commit", err)
	}
	u.store.uploads.complete(u.session, d)
	if err := u.save(); err != nil {
		u.store.raise("upload not put down", err)
		return u.errorf("commit", fmt.Errorf("%w: %w", ErrNotKept, err))
	}
	if err := u.install(l, o); err != nil {
		u.store.raise("upload not committed", err)
		return u.errorf("commit", fmt.Errorf("%w: %w", ErrNotKept, err))
	}
	u.ended = true
	_ = u.file.Close() // all of it was synced
	u.store.removeUpload(u.session)
	return nil
}

// listAs is the complete piece list of the upload as d, whose bytes are thereby proven.
func (u *Upload) listAs(ctx context.Context, d oci.Digest) (*piece.List, error) {
	tally := u.tally
	if d.Algorithm() != tally.Algorithm() {
		var err error
		if tally, err = u.hashAgain(ctx, d.Algorithm()); err != nil {
			return nil, err
		}
	}
	if tally.Digest() != d {
		return nil, &oci.MismatchError{Digest: d, Piece: -1}
	}
	l, err := tally.List(u.store.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrTooLarge, err) // no list is so long
	}
	return l, nil
}

// hashAgain hashes the upload by an algorithm that was not known when it began.
func (u *Upload) hashAgain(ctx context.Context, algorithm string) (*piece.Tally, error) {
	tally := piece.NewTally(algorithm)
	buf := make([]byte, uploadBuffer)
	for tally.Size() < u.Offset() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := buf[:min(int64(len(buf)), u.Offset()-tally.Size())]
		if err := u.store.disk.readAt(u.file, part, tally.Size()); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read it again: %w", err)
		}
		_, _ = tally.Write(part)
	}
	return tally, nil
}

// install moves the bytes to their place. A blob that is whole already only gains what o says.
func (u *Upload) install(l *piece.List, o Origin) error {
	s, d := u.store, l.Digest()
	defer s.lockDigest(d)()
	if e, err := s.entry(d); err == nil {
		return s.setMeta(e, e.snapshot().withOrigin(o))
	}
	m := meta{Size: l.Size()}
	if old, ok := s.metaOf(d); ok {
		m = m.merged(old)
	}
	m = m.withOrigin(o)
	if err := u.file.Chmod(0o444); err != nil {
		return err
	}
	if err := s.removeIdle(d); err != nil {
		s.logError("remove partial blob", d, err)
	}
	s.keepList(l, m)
	e, err := s.place(d, uploadPath(u.ID(), dataSuffix), m)
	if err != nil {
		return errors.Join(err, u.file.Chmod(0o600))
	}
	s.verified(e, l)
	s.index.putList(l)
	s.adopt(e)
	s.count.committed.Add(1)
	return nil
}

// keepList leaves the list of a blob that becomes whole where a start finds it, until the index has it, so that a kill
// does not cost hashing the blob again. The caller has locked the digest.
func (s *Store) keepList(l *piece.List, m meta) {
	d := l.Digest()
	s.mu.RLock()
	open := s.partials[d] != nil
	s.mu.RUnlock()
	if open { // that place is taken
		return
	}
	st := partialState{list: l, has: piece.FullBitmap(l.Count()), meta: m}
	if err := s.replace(partialPath(d, infoSuffix), st.marshal(), false); err != nil {
		s.logError("keep piece list", d, err)
		return
	}
	s.index.adoptable(d)
}
