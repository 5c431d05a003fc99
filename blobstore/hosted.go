package blobstore

import (
	"bytes"
	"fmt"

	"github.com/pullonce/pullonce/oci"
)

// MaxNoteBytes is the largest note.
const MaxNoteBytes = 1 << 20

// SetNote puts a note beside a blob in the place of the one that is there; without bytes it takes it away. What it says
// means something to the caller only. It is on disk, synced, when the result is nil, and goes with the blob.
// oci.ErrNotFound: the blob is not here; ErrNotKept: the disk did not take it; oci.ErrTooLarge: over MaxNoteBytes.
func (s *Store) SetNote(d oci.Digest, note []byte) error {
	if len(note) > MaxNoteBytes {
		return fmt.Errorf("note of %d bytes on blob %s: %w", len(note), d, oci.ErrTooLarge)
	}
	return s.changeMeta(d, func(m meta) meta {
		m.Note = bytes.Clone(note)
		return m
	})
}

// Note is the note beside a blob, which must not be changed; nil when there is none. It reads memory only.
func (s *Store) Note(d oci.Digest) []byte {
	m, _ := s.metaOf(d)
	return m.Note
}

// EachHosted calls f with every whole hosted blob until f returns false. It sees those of the moment of the call; f may
// call the store.
func (s *Store) EachHosted(f func(d oci.Digest, size int64) bool) {
	s.mu.RLock()
	all := make([]*entry, 0, len(s.hosted))
	for _, e := range s.hosted {
		all = append(all, e)
	}
	s.mu.RUnlock()
	for _, e := range all {
		if !f(e.digest, e.size()) {
			return
		}
	}
}

// HostedChanges counts what came to the hosted blobs and went from them: as long as it stays the same, they do.
func (s *Store) HostedChanges() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changes
}

// sort keeps the hosted blobs apart from the others, after e or what is known of it has changed.
func (s *Store) sort(e *entry) {
	hosted := e.snapshot().Hosted
	s.mu.Lock()
	defer s.mu.Unlock()
	if !hosted || s.entries[e.digest] != e {
		s.unhost(e.digest)
		return
	}
	if s.hosted[e.digest] == nil {
		s.changes++
		s.apart += e.size()
	}
	s.hosted[e.digest] = e
}

// unhost takes d from the hosted blobs. The caller holds mu.
func (s *Store) unhost(d oci.Digest) {
	if e := s.hosted[d]; e != nil {
		delete(s.hosted, d)
		s.changes++
		s.apart -= e.size()
	}
}
