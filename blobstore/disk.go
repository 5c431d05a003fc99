package blobstore

import (
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A disk does what can fail when a file system is full, broken or read-only. Tests make it fail on demand.
type disk interface {
	open(root *os.Root, name string, flag int) (*os.File, error)
	readAt(f *os.File, data []byte, off int64) error
	writeAt(f *os.File, off int64, parts ...[]byte) error
	truncate(f *os.File, size int64) error
	syncData(f *os.File) error
	rename(root *os.Root, from, to string) error
	free(dir string) (int64, error)
}

type osDisk struct{}

func (osDisk) open(root *os.Root, name string, flag int) (*os.File, error) {
	return root.OpenFile(name, flag, 0o600)
}

func (osDisk) readAt(f *os.File, data []byte, off int64) error {
	_, err := f.ReadAt(data, off)
	return err
}

// writeAt writes parts that follow each other. Several go to the kernel at once: a piece comes off the line in many, and
// putting them together first would cost a copy.
func (osDisk) writeAt(f *os.File, off int64, parts ...[]byte) error {
	if len(parts) == 1 {
		_, err := f.WriteAt(parts[0], off)
		return err
	}
	for len(parts) > 0 {
		n, err := unix.Pwritev(int(f.Fd()), parts[:min(len(parts), maxVector)], off)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		off += int64(n)
		parts = after(parts, n)
	}
	return nil
}

// maxVector is how many parts the kernel takes at once (IOV_MAX).
const maxVector = 1024

// after is parts without their first n bytes. It does not change what the caller has.
func after(parts [][]byte, n int) [][]byte {
	for len(parts) > 0 && n >= len(parts[0]) {
		n -= len(parts[0])
		parts = parts[1:]
	}
	if n > 0 {
		parts = slices.Clone(parts)
		parts[0] = parts[0][n:]
	}
	return parts
}

func (osDisk) truncate(f *os.File, size int64) error { return f.Truncate(size) }

func (osDisk) syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func (osDisk) rename(root *os.Root, from, to string) error { return root.Rename(from, to) }

func (osDisk) free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reopen is a second open file of the same inode, with its own offset. It works when the file has been renamed or
// unlinked since, which a path does not.
func reopen(f *os.File) (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}
