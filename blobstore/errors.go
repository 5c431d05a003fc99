package blobstore

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// The conditions that callers tell apart. Match them with errors.Is.
var (
	// ErrWhole: the blob is whole already; open it with Store.Open.
	ErrWhole = errors.New("blob is whole")
	// ErrOtherList: the partial blob is open with another piece list. Drop or Fail that one first.
	ErrOtherList = errors.New("partial blob is open with another piece list")
	// ErrWindow: the partial blob lives in memory and this piece is outside of the window that its readers need.
	ErrWindow = errors.New("piece is outside of the memory window")
	// ErrNotKept: the bytes were right but could not be kept: the disk is full, broken or read-only, or the budget is
	// too small.
	ErrNotKept = errors.New("blob could not be kept")
	// ErrDropped: the partial blob was dropped.
	ErrDropped = errors.New("partial blob was dropped")
	// ErrIncomplete: the partial blob lacks pieces.
	ErrIncomplete = errors.New("partial blob lacks pieces")
	// ErrBusy: somebody else holds the upload.
	ErrBusy = errors.New("upload is in use")
	// ErrTooManyUploads: as many uploads are going on as may.
	ErrTooManyUploads = errors.New("too many uploads are going on")
	// ErrClosed: the store, blob, partial blob or upload is closed.
	ErrClosed = errors.New("closed")
)

// A LockedError says that another process has the store's directory.
type LockedError struct {
	Dir string
	PID int // 0 when the other process has not written it yet
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("data directory %s is in use by process %d", e.Dir, e.PID)
}

// diskFailed tells whether err means that the disk cannot take bytes now, whoever asks.
func diskFailed(err error) bool {
	for _, target := range []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EFBIG, syscall.ENODEV, syscall.ENXIO,
		syscall.EUCLEAN, syscall.ESTALE, syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.EPERM, io.ErrShortWrite,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
