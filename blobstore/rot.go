package blobstore

import (
	"log/slog"
	"os"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// rot takes a whole blob of which piece i is wrong out of service. It becomes a partial blob that lacks this piece; the
// pieces that were not checked yet are checked there before they count. Without a list that others have, no piece can
// be told from another, and the whole blob goes.
func (s *Store) rot(v *verification, i int, cause error) {
	d := v.list.Digest()
	if !s.takeOut(v, i) {
		return
	}
	s.count.rotten.Add(1)
	attrs := []any{slog.String("digest", d.String()), slog.Int("piece", i)}
	if cause != nil {
		attrs = append(attrs, slog.String("error", cause.Error()))
	}
	s.log.Warn("stored blob has rotted", attrs...)
	if v.hasher != nil {
		i = -1
	}
	if s.cfg.OnRot != nil {
		s.cfg.OnRot(d, i)
	}
}

// takeOut tells whether it was this call that changed something: several readers can find the same piece, and one can
// find a second piece when the first has made the blob partial already.
func (s *Store) takeOut(v *verification, i int) bool {
	d := v.list.Digest()
	defer s.lockDigest(d)()
	s.mu.RLock()
	current := s.entries[d]
	s.mu.RUnlock()
	if current != v.entry {
		return false
	}
	m := current.snapshot()
	if v.hasher != nil {
		s.logError("remove rotten blob", d, s.removeWhole(d))
		return true
	}
	if err := s.demote(d, v.list, m, i); err != nil {
		s.logError("keep the good pieces of a rotten blob", d, err)
		s.logError("remove rotten blob", d, s.removeWhole(d))
	}
	return true
}

// demote turns the files of a whole blob into those of a partial one. The state is written first: a crash between the
// two leaves a whole blob, whose rot the next read finds again, and a state without data, which is cleaned.
func (s *Store) demote(d oci.Digest, l *piece.List, m meta, bad int) error {
	has := piece.FullBitmap(l.Count())
	has.Clear(bad)
	state := partialState{list: l, has: has, meta: m}
	if err := s.replace(partialPath(d, infoSuffix), state.marshal(), true); err != nil {
		return err
	}
	s.forget(d)
	if err := s.root.Chmod(blobPath(d), 0o600); err != nil {
		return err
	}
	if err := s.disk.rename(s.root, blobPath(d), partialPath(d, dataSuffix)); err != nil {
		return err
	}
	s.setIdle(d, state)
	return s.remove(metaPath(d))
}

// logError tells of what went wrong beside the work, and is nobody's result.
func (s *Store) logError(step string, d oci.Digest, err error) {
	if err != nil && !os.IsNotExist(err) {
		s.log.Error("blob store step failed", slog.String("step", step), slog.String("digest", d.String()), slog.String("error", err.Error()))
	}
}
