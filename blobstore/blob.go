package blobstore

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// A Blob is an open whole blob. It goes on working when the blob is evicted. It may be shared by goroutines; Close it.
type Blob struct {
	store *Store
	entry *entry
	file  *os.File
	size  int64
	close sync.Once
}

// Open opens a whole blob; oci.ErrNotFound when there is none. It counts as a use.
func (s *Store) Open(d oci.Digest) (*Blob, error) {
	e, err := s.entry(d)
	if err != nil {
		return nil, err
	}
	f, err := s.disk.open(s.root, blobPath(d), os.O_RDONLY)
	if err != nil {
		return nil, s.missing(e, err)
	}
	s.touch(e)
	return &Blob{store: s, entry: e, file: f, size: e.size()}, nil
}

// missing explains why the file of e did not open. One that someone removed from the directory is forgotten.
func (s *Store) missing(e *entry, cause error) error {
	defer s.lockDigest(e.digest)()
	if _, err := s.root.Stat(blobPath(e.digest)); !os.IsNotExist(err) {
		return fmt.Errorf("open blob %s: %w", e.digest, cause)
	}
	s.forget(e.digest)
	return fmt.Errorf("open blob %s: %w", e.digest, oci.ErrNotFound)
}

// Digest names the blob.
func (b *Blob) Digest() oci.Digest { return b.entry.digest }

// Size is the blob's size in bytes.
func (b *Blob) Size() int64 { return b.size }

// File is the blob's file, opened for this Blob alone. Its bytes are checked only when Checked says so; Reader checks
// as it goes.
func (b *Blob) File() *os.File { return b.file }

// Checked tells whether all bytes were checked since the start and within the scrub interval.
func (b *Blob) Checked() bool { return b.store.checked(b.entry) }

// List is the blob's piece list, whose chain is closed, or nil when it was lost with the index; EnsureList makes it
// anew.
func (b *Blob) List() *piece.List { return b.store.loadList(b.entry) }

// EnsureList is the blob's piece list. When it was lost, the whole blob is hashed first; bytes that turn out wrong are
// an *oci.MismatchError, and the blob is gone.
func (b *Blob) EnsureList(ctx context.Context) (*piece.List, error) {
	if l := b.List(); l != nil {
		return l, nil
	}
	if err := b.store.verification(b.entry).ensureAll(ctx, b.file); err != nil {
		return nil, fmt.Errorf("list pieces of %s: %w", b.Digest(), err)
	}
	return b.List(), nil
}

// ReadPiece reads piece i of the list into buf and returns its length. A piece that was not checked yet is checked
// first; one that is wrong is an *oci.MismatchError, and the blob is partial from then on.
func (b *Blob) ReadPiece(ctx context.Context, i int, buf []byte) (int, error) {
	l, err := b.EnsureList(ctx)
	if err != nil {
		return 0, err
	}
	off, n := l.Bounds(i)
	if i < 0 || i >= l.Count() || int64(len(buf)) < n {
		return 0, fmt.Errorf("read piece %d of %s into %d bytes", i, b.Digest(), len(buf))
	}
	if !b.Checked() {
		if err := b.store.verification(b.entry).ensure(ctx, b.file, i); err != nil {
			return 0, fmt.Errorf("read piece %d of %s: %w", i, b.Digest(), err)
		}
	}
	if err := b.store.disk.readAt(b.file, buf[:n], off); err != nil {
		b.store.suspect(b.entry)
		return 0, fmt.Errorf("read piece %d of %s: %w", i, b.Digest(), err)
	}
	return int(n), nil
}

// Close gives the file back. Readers go on. It may be called twice.
func (b *Blob) Close() error {
	var err error
	b.close.Do(func() { err = b.file.Close() })
	return err
}
