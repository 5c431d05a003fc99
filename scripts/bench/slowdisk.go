package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// slowDiskRate is in bytes a second, an old disk's.
const slowDiskRate = 40 << 20

// measureSlowDisk watches a node whose disk is much slower than its upstream: a file system of its own, on which every
// write waits for the disk, behind a limit of the kernel's.
func measureSlowDisk(ctx context.Context, b *bench, s *sheet) error {
	most := s.line("1 client, a cold blob of 512 MiB, disk of 40 MiB/s", "MiB", atMost(memoryGoal), "")
	took := s.line("until the client has it", "s", nil, "")
	image, err := b.image(150, b.size(512*mib))
	if err != nil {
		return err
	}
	one := func() (err error) {
		disk, err := newSlowDisk(ctx, b, 2*gib)
		if err != nil {
			s.Skipped = fmt.Sprintf("no slow disk could be made: %v", err)
			return nil
		}
		defer func() { err = errors.Join(err, disk.close()) }()
		h, err := b.hub(0, image)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		f, err := b.farmIn(ctx, disk.dir, 1, h.URL(), "")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Farm.Close()) }()
		if err := disk.limit(f.Nodes[0].PID()); err != nil {
			s.Skipped = fmt.Sprintf("no slow disk could be made: %v", err)
			return nil
		}
		start := time.Now()
		watch := watchMemory(ctx, f.pids()...)
		err = pullBlobs(ctx, image, f.Nodes[0])
		took(time.Since(start).Seconds())
		// A few seconds more: the disk is still behind.
		wait(ctx, 2*time.Second)
		most(watch.end())
		return err
	}
	for range b.runs {
		if err := one(); err != nil || s.Skipped != "" {
			return err
		}
	}
	return nil
}

// A slowDisk is a file system in a file, and a control group whose processes write to it slowly.
type slowDisk struct {
	dir    string
	file   string
	group  string
	device string // major:minor
}

func newSlowDisk(ctx context.Context, b *bench, size int64) (*slowDisk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it needs root")
	}
	dir, err := b.folder("disk")
	if err != nil {
		return nil, err
	}
	d := &slowDisk{dir: dir, file: dir + ".img"}
	if err := os.WriteFile(d.file, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.file, size); err != nil {
		return nil, errors.Join(err, d.close())
	}
	for _, args := range [][]string{{"mkfs.ext4", "-F", "-q", d.file}, {"mount", "-o", "loop,sync", d.file, d.dir}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w: %s", args[0], err, strings.TrimSpace(string(out))), d.close())
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(d.dir, &stat); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.device = fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	return d, nil
}

// limit has a process write slowly, by version 1 or 2 of control groups, whichever has the disk's controller.
func (d *slowDisk) limit(pid int) error {
	root, file, text := "/sys/fs/cgroup/blkio", "blkio.throttle.write_bps_device", fmt.Sprintf("%s %d", d.device, slowDiskRate)
	if _, err := os.Stat(root); err != nil {
		root, file, text = "/sys/fs/cgroup", "io.max", fmt.Sprintf("%s wbps=%d", d.device, slowDiskRate)
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+io"), 0); err != nil {
			return err
		}
	}
	d.group = filepath.Join(root, "p2p-bench-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(d.group, 0o755); err != nil {
		d.group = ""
		return err
	}
	if err := os.WriteFile(filepath.Join(d.group, file), []byte(text), 0); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// close removes it all; the process must have ended.
func (d *slowDisk) close() error {
	var errs []error
	if d.group != "" {
		errs = append(errs, os.Remove(d.group))
	}
	if d.device != "" {
		errs = append(errs, exec.Command("umount", d.dir).Run())
	}
	return errors.Join(append(errs, os.Remove(d.file), os.Remove(d.dir))...)
}
