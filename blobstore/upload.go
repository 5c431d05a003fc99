package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

const (
	// uploadBuffer is how many bytes are read before they go to the disk; an upload that takes bytes has two.
	uploadBuffer = 512 << 10
	// flushStep is after how many bytes the kernel is asked to begin writing, so that the sync at the end is short.
	flushStep = 8 << 20
	// The room for an upload is taken in growing steps, since its size is not known before it ends.
	minRoomStep, maxRoomStep = 1 << 20, 16 << 20
)

// An Upload is a blob that a client sends, held by one goroutine. It survives a restart of the node with all bytes of
// each Append that has returned, and most of one that had not. Offset may be called by others at any time.
type Upload struct {
	store   *Store
	session *session
	file    *os.File
	repo    oci.Repository
	created time.Time

	tally   *piece.Tally // of the bytes before offset
	offset  atomic.Int64
	saved   int64     // the offset in the state file
	savedAt time.Time // the last try
	flushed int64     // the kernel was asked to write what is before
	left    int64     // the kernel has let go what is before
	durable bool      // the files are found after a power cut
	ended   bool      // committed, cancelled or given back
	broken  error     // where the upload stands is not known any more
}

// ID names the upload; who knows it may go on with it.
func (u *Upload) ID() string { return u.session.id }

// Repository is the repository that the blob is sent to.
func (u *Upload) Repository() oci.Repository { return u.repo }

// Offset is how many bytes have arrived.
func (u *Upload) Offset() int64 { return u.offset.Load() }

func (u *Upload) moveTo(offset int64) { u.offset.Store(offset) }

func (u *Upload) usable() error {
	if u.ended {
		return ErrClosed
	}
	return u.broken
}

func (u *Upload) errorf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s upload %s: %w", doing, u.ID(), err)
}

// Append adds what r has to the upload and returns how many bytes it kept, also with an error: the upload then goes on
// from Offset. They are on disk, synced. The error is that of r, of ctx, oci.ErrTooLarge beyond Config.MaxUpload, or
// ErrNotKept when the disk is full or fails.
// While too many others append it waits, and is ErrTooManyUploads in the end.
func (u *Upload) Append(ctx context.Context, r io.Reader) (int64, error) {
	if err := u.usable(); err != nil {
		return 0, u.errorf("append to", err)
	}
	if err := u.store.uploads.enter(ctx); err != nil {
		return 0, u.errorf("append to", err)
	}
	defer u.store.uploads.leave()
	u.store.uploads.complete(u.session, oci.Digest{}) // a commit may have failed before
	begin := u.Offset()
	err := u.take(ctx, r)
	if saveErr := u.save(); saveErr != nil {
		u.store.raise("upload not put down", saveErr)
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrNotKept, saveErr))
	}
	u.store.uploads.set(u.session, u.Offset(), u.Offset())
	return max(0, u.Offset()-begin), u.errorf("append to", err)
}

// take reads and writes while another goroutine hashes what was read before.
func (u *Upload) take(ctx context.Context, r io.Reader) error {
	h := u.startHashing()
	defer h.stop()
	for {
		buf := <-h.free
		n, readErr := u.fill(ctx, r, buf)
		err := u.keep(buf[:n])
		if err != nil {
			return err
		}
		h.work <- buf[:n]
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		if time.Since(u.savedAt) >= u.store.cfg.SyncInterval {
			if err := u.saveUnderway(h); err != nil {
				return err
			}
		}
	}
}

// saveUnderway puts u down while bytes come. No hash may be missing by then.
func (u *Upload) saveUnderway(h *hashing) error {
	h.settle()
	if err := u.save(); err != nil {
		u.store.raise("upload not put down", err)
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return nil
}

// fill reads until buf is full or a while has passed: many small reads make one write.
func (u *Upload) fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	allowed := int64(len(buf))
	if limit := u.store.cfg.MaxUpload; limit > 0 {
		allowed = min(allowed, limit-u.Offset()+1) // one more shows that there is more
	}
	begin := time.Now()
	for err == nil && int64(n) < allowed && time.Since(begin) < u.store.cfg.SyncInterval {
		if err = ctx.Err(); err != nil {
			break
		}
		var k int
		k, err = r.Read(buf[n:allowed])
		n += k
	}
	if limit := u.store.cfg.MaxUpload; limit > 0 && u.Offset()+int64(n) > limit {
		return int(limit - u.Offset()), fmt.Errorf("%w: the limit is %d bytes", oci.ErrTooLarge, limit)
	}
	return n, err
}

// keep writes what follows at the end of the upload, in however many parts it is.
func (u *Upload) keep(parts ...[]byte) error {
	s, off, n := u.store, u.Offset(), int64(0)
	for _, part := range parts {
		n += int64(len(part))
	}
	if n == 0 {
		return nil
	}
	err := u.reserve(off + n)
	if err == nil {
		err = s.disk.writeAt(u.file, off, parts...)
		if err != nil && s.relieve(err, oci.Digest{}) {
			err = s.disk.writeAt(u.file, off, parts...)
		}
	}
	if err != nil {
		s.raise("upload not kept", err)
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	off += n
	u.moveTo(off)
	s.uploads.set(u.session, off, max(off, u.session.room))
	if off-u.flushed < flushStep {
		return nil
	}
	// Best effort: what it cannot begin, the sync does.
	_ = unix.SyncFileRange(int(u.file.Fd()), u.flushed, off-u.flushed, unix.SYNC_FILE_RANGE_WRITE)
	u.flushed = off
	if u.session.guest {
		return u.release()
	}
	return nil
}

// reserve sees to it that there is room up to end, and for a while beyond where there is.
func (u *Upload) reserve(end int64) error {
	s, have := u.store, u.session.room
	if end <= have {
		return nil
	}
	need := max(end-have, min(maxRoomStep, max(minRoomStep, end/4)))
	release, err := s.makeRoomApart(need)
	if err != nil && need > end-have {
		need = end - have
		release, err = s.makeRoomApart(need)
	}
	if err != nil {
		return err
	}
	s.uploads.set(u.session, u.Offset(), have+need)
	release()
	return nil
}

// A hashing is the goroutine that hashes what an Append has written, in order.
type hashing struct {
	free, work chan []byte
	done       chan struct{}
}

func (u *Upload) startHashing() *hashing {
	h := &hashing{free: make(chan []byte, 2), work: make(chan []byte, 2), done: make(chan struct{})}
	for range cap(h.free) {
		buf, _ := u.store.uploadBuffers.Get().(*[]byte)
		if buf == nil {
			fresh := make([]byte, uploadBuffer)
			buf = &fresh
		}
		h.free <- *buf
	}
	go func() {
		defer close(h.done)
		for data := range h.work {
			_, _ = u.tally.Write(data)
			h.free <- data[:cap(data)]
		}
		for range len(h.free) {
			buf := <-h.free
			u.store.uploadBuffers.Put(&buf)
		}
	}()
	return h
}

// settle returns once all that was handed over is hashed.
func (h *hashing) settle() {
	a, b := <-h.free, <-h.free
	h.free <- a
	h.free <- b
}

func (h *hashing) stop() {
	close(h.work)
	<-h.done
}

// Cancel removes the upload. It may follow an error; after Commit or Close it does nothing.
func (u *Upload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	err := u.file.Close()
	u.store.removeUpload(u.session)
	return u.errorf("cancel", err)
}

// Close gives the upload back, so that another can go on with it; one of StartIncoming is cancelled. After Commit or
// Cancel it does nothing; it may be called twice.
func (u *Upload) Close() error {
	if u.ended {
		return nil
	}
	if u.session.guest {
		return u.Cancel()
	}
	u.ended = true
	err := u.file.Close()
	u.store.uploads.giveBack(u.session)
	return u.errorf("close", err)
}
