package blobstore

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/pullonce/pullonce/oci"
)

// A Follower reads an upload while it grows, from the same file and not from its client: it costs the upload nothing.
// It belongs to one goroutine; Close it.
type Follower struct {
	store   *Store
	session *session
	file    *os.File
	hash    string
	offset  int64
}

// FollowUpload reads the upload of that id from its start; oci.ErrNotFound when there is none.
func (s *Store) FollowUpload(id string) (*Follower, error) {
	s.uploads.mu.Lock()
	se, hash := s.uploads.known[id], ""
	if se != nil {
		hash = se.hash
	}
	s.uploads.mu.Unlock()
	if se == nil || se.guest {
		return nil, fmt.Errorf("follow upload: %w", oci.ErrNotFound)
	}
	f, err := s.disk.open(s.root, uploadPath(id, dataSuffix), os.O_RDONLY)
	if os.IsNotExist(err) {
		err = oci.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("follow upload %s: %w", id, err)
	}
	return &Follower{store: s, session: se, file: f, hash: hash}, nil
}

// Read waits for more bytes and reads what has come. io.EOF: all were read, and they are Digest; they may still be on
// their way to the disk. ErrDropped: the upload was cancelled, or had to go back to before where the Follower is.
func (f *Follower) Read(ctx context.Context, buf []byte) (int, error) {
	for {
		n, changed, err := f.look(int64(len(buf)))
		if n > 0 {
			if err := f.store.disk.readAt(f.file, buf[:n], f.offset); err != nil {
				return 0, f.errorf(err)
			}
			f.offset += n
			return int(n), nil
		}
		if err != nil {
			return 0, f.errorf(err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, f.errorf(context.Cause(ctx))
		}
	}
}

// look tells how many bytes can be read now, or gives what is closed when that changes, or how the upload ended.
func (f *Follower) look(limit int64) (n int64, changed <-chan struct{}, err error) {
	se := f.session
	f.store.uploads.mu.Lock()
	defer f.store.uploads.mu.Unlock()
	switch n = min(se.bytes-f.offset, limit); {
	case n > 0 && (!se.gone || !se.whole.IsZero()):
		return n, nil, nil
	case n < 0:
		return 0, nil, ErrDropped
	case !se.whole.IsZero():
		return 0, nil, io.EOF
	case se.gone:
		return 0, nil, ErrDropped
	}
	if se.changed == nil {
		se.changed = make(chan struct{})
	}
	return 0, se.changed, nil
}

func (f *Follower) errorf(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("follow upload %s: %w", f.session.id, err)
}

// Algorithm is what the upload is hashed by as it comes; it can still be committed by a digest of the other one.
func (f *Follower) Algorithm() string { return f.hash }

// Digest is what the bytes are, once Read has said io.EOF.
func (f *Follower) Digest() oci.Digest {
	f.store.uploads.mu.Lock()
	defer f.store.uploads.mu.Unlock()
	return f.session.whole
}

// Close ends the following.
func (f *Follower) Close() error { return f.file.Close() }
