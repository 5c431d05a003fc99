package catalog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData waits until what was written to f is on disk. The times of f may lag behind; a sync of them too would
// write twice.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
