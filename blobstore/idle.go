package blobstore

import "github.com/pullonce/pullonce/oci"

// Partials are the partial blobs on disk that nobody has open, and that have pieces.
func (s *Store) Partials() []oci.Digest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []oci.Digest
	for d, idle := range s.idle {
		if idle.bytes > 0 {
			out = append(out, d)
		}
	}
	return out
}

// HasPartial tells whether there is a partial blob, open or on disk with pieces.
func (s *Store) HasPartial(d oci.Digest) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	idle := s.idle[d]
	return s.partials[d] != nil || idle != nil && idle.bytes > 0
}
