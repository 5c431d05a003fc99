package blobstore

import (
	"container/list"
	"errors"
	"fmt"
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// PutManifest keeps a manifest's bytes as they are, with their media type, and links it to repo. Bytes that are not d
// are an *oci.MismatchError. When the disk cannot take it the error is ErrNotKept; Manifest still has it for a while.
func (s *Store) PutManifest(d oci.Digest, mediaType string, raw []byte, repo oci.Repository) error {
	if len(raw) > oci.MaxManifestBytes {
		return fmt.Errorf("put manifest %s of %d bytes: %w", d, len(raw), oci.ErrTooLarge)
	}
	err := s.keep(d, raw, Origin{Repository: repo, MediaType: mediaType})
	if err == nil || errors.Is(err, ErrNotKept) {
		s.manifests.put(&manifest{digest: d, mediaType: mediaType, raw: raw})
	}
	return err
}

// Manifest is a manifest's media type and its bytes, which must not be changed; oci.ErrNotFound when it is not kept. A
// hot one comes from memory. What comes from the disk is checked; wrong bytes are removed and not found.
func (s *Store) Manifest(d oci.Digest) (mediaType string, raw []byte, err error) {
	e, entryErr := s.entry(d)
	if m := s.manifests.get(d); m != nil {
		if entryErr == nil {
			s.touch(e)
		}
		return m.mediaType, m.raw, nil
	}
	if entryErr != nil {
		return "", nil, fmt.Errorf("manifest %s: %w", d, oci.ErrNotFound)
	}
	known := e.snapshot()
	if known.Size > oci.MaxManifestBytes {
		return "", nil, fmt.Errorf("manifest %s of %d bytes: %w", d, known.Size, oci.ErrTooLarge)
	}
	raw, err = s.readFile(blobPath(d), oci.MaxManifestBytes)
	if err != nil { // too many open files, it may be: no reason to give up a copy
		return "", nil, s.missing(e, err)
	}
	if oci.FromBytes(d.Algorithm(), raw) != d {
		s.log.Warn("stored manifest has rotted", "digest", d.String())
		s.count.rotten.Add(1)
		return "", nil, errors.Join(fmt.Errorf("manifest %s: %w", d, oci.ErrNotFound), s.Delete(d))
	}
	s.touch(e)
	s.manifests.put(&manifest{digest: d, mediaType: known.MediaType, raw: raw})
	return known.MediaType, raw, nil
}

type manifest struct {
	digest    oci.Digest
	mediaType string
	raw       []byte
}

// A manifestCache keeps the manifests that were used last, up to a number of bytes.
type manifestCache struct {
	max int64

	mu    sync.Mutex
	at    map[oci.Digest]*list.Element // of *manifest
	used  *list.List                   // the last used first
	bytes int64
}

func newManifestCache(limit int64) *manifestCache {
	return &manifestCache{max: limit, at: make(map[oci.Digest]*list.Element), used: list.New()}
}

func (c *manifestCache) get(d oci.Digest) *manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.at[d]
	if at == nil {
		return nil
	}
	c.used.MoveToFront(at)
	return at.Value.(*manifest)
}

func (c *manifestCache) put(m *manifest) {
	if m.cost() > c.max/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(m.digest)
	c.at[m.digest] = c.used.PushFront(m)
	c.bytes += m.cost()
	for c.bytes > c.max {
		c.removeLocked(c.used.Back().Value.(*manifest).digest)
	}
}

func (c *manifestCache) remove(d oci.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(d)
}

func (c *manifestCache) removeLocked(d oci.Digest) {
	if at := c.at[d]; at != nil {
		c.bytes -= at.Value.(*manifest).cost()
		c.used.Remove(at)
		delete(c.at, d)
	}
}

// cost counts what a small manifest takes besides its bytes.
func (m *manifest) cost() int64 { return int64(len(m.raw)) + 512 }
