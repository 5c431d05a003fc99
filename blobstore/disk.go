package blobstore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A disk does what can fail when a file system is full, broken or read-only. Tests make it fail on demand.
type disk interface {
	open(root *os.Root, name string, flag int) (*os.File, error)
	readAt(f *os.File, data []byte, off int64) error
	writeAt(f *os.File, data []byte, off int64) error
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

func (osDisk) writeAt(f *os.File, data []byte, off int64) error {
	_, err := f.WriteAt(data, off)
	return err
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
