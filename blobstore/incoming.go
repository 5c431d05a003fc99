package blobstore

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

const (
	// hashedLater is how many portions of an incoming blob may wait to be hashed.
	hashedLater = 2
	// releaseLag is how many of its last bytes stay in the kernel's memory.
	releaseLag = 2 * flushStep
)

// StartIncoming begins a blob that a peer sends and that is committed as an upload is. It is none of the uploads of
// clients: it does not count among them, nobody can go on with it, and nothing of it outlives a restart. How many there
// are is up to the caller. Room is taken for size bytes at once; -1: how many will come is not known. The errors are
// those of StartUpload.
func (s *Store) StartIncoming(algorithm string, size int64) (*Upload, error) {
	if algorithm != oci.SHA256 && algorithm != oci.SHA512 {
		return nil, fmt.Errorf("start incoming blob: %w: algorithm %.40q is not supported", oci.ErrDigestInvalid, algorithm)
	}
	se := s.uploads.addGuest(newUploadID())
	u := &Upload{store: s, session: se, tally: piece.NewTally(algorithm), created: time.Now()}
	err := u.reserve(size)
	if err == nil {
		err = u.create()
	}
	if err != nil {
		s.removeUpload(se)
		s.raise("incoming blob not started", err)
		return nil, fmt.Errorf("start incoming blob: %w: %w", ErrNotKept, err)
	}
	return u, nil
}

// A Portion is bytes that follow each other, in the parts in which they came off the line. Free, which may be nil, is
// called once they are not needed any more.
type Portion struct {
	Parts [][]byte
	Free  func()
}

func (p Portion) free() {
	if p.Free != nil {
		p.Free()
	}
}

// AppendPortions adds what next gives, until that is io.EOF, and copies none of it. A portion is hashed while the next
// one is written. Unlike Append it puts nothing down: that is left to Commit. The error is that of next, or ErrNotKept.
func (u *Upload) AppendPortions(ctx context.Context, next func(context.Context) (Portion, error)) error {
	if err := u.usable(); err != nil {
		return u.errorf("append to", err)
	}
	work, done := make(chan Portion, hashedLater), make(chan struct{})
	go func() {
		defer close(done)
		for p := range work {
			for _, part := range p.Parts {
				_, _ = u.tally.Write(part)
			}
			p.free()
		}
	}()
	err := u.takePortions(ctx, next, work)
	close(work)
	<-done
	return u.errorf("append to", err)
}

func (u *Upload) takePortions(ctx context.Context, next func(context.Context) (Portion, error), work chan<- Portion) error {
	for {
		p, err := next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.keep(p.Parts...); err != nil {
			p.free()
			return err
		}
		work <- p
	}
}

// release waits until the kernel has written what came a while ago and has it forget that: nobody here has asked for
// the bytes, and gigabytes of them would push out of memory what the host works with. A small blob stays.
func (u *Upload) release() error {
	n := u.flushed - releaseLag - u.left
	if n <= 0 {
		return nil
	}
	fd := int(u.file.Fd())
	const written = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(fd, u.left, n, written); diskFailed(err) { // the sync would not say it again
		u.broken = fmt.Errorf("%w: %w", ErrNotKept, err)
		return u.broken
	}
	_ = unix.Fadvise(fd, u.left, n, unix.FADV_DONTNEED) // it stays a while longer otherwise
	u.left += n
	return nil
}
