package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// checkRoom makes sure that the image fits, once where it is made and once for each host. Nodes would not mind a full
// disk, but then they keep nothing and the demo shows another story.
func checkRoom(dir string, o options) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("room below %s: %w", dir, err)
	}
	free := int64(s.Bavail) * int64(s.Bsize) //nolint:unconvert // the types differ between systems
	if want := (int64(o.hostsInAll())+2)*sum(o.layers) + 64<<20; free < want {
		return fmt.Errorf("%s has %s free, the demo needs %s: set TMPDIR to a folder with more, or take fewer NODES",
			dir, size(free), size(want))
	}
	return nil
}
