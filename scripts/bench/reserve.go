package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reserveChunk is what a reserve holds and lets go at a time.
	reserveChunk = 64 * mib
	// reserveFloor is the free memory below which a reserve lets go of a chunk.
	reserveFloor = 768 * mib
	// reserveLook is how often it looks: what nodes write in that time is far less than the floor.
	reserveLook = 2 * time.Millisecond
)

// A reserve is memory that the machine really has. Under a hypervisor that takes back what is free (free page
// reporting, ballooning), the first use of a page costs 10 to 30 times what writing to it does, and would be charged to
// whom it happens to meet. A reserve holds nearly all free memory, used once, and lets go of it as it is needed, so that
// what is measured finds the memory that a machine of its own would have. The zero value holds nothing.
type reserve struct {
	chunks [][]byte
	stop   context.CancelFunc // of the feeding; nil when it rests
	group  sync.WaitGroup
}

// hold takes memory until little is free, and lets it go as it gets short from then on, until rest.
func (r *reserve) hold(ctx context.Context) error {
	r.rest()
	for ctx.Err() == nil {
		free, err := freeMemory()
		if err != nil {
			return err
		}
		if free < reserveFloor+reserveChunk {
			break
		}
		chunk, err := unix.Mmap(-1, 0, reserveChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			break // a limit of the process; what there is will do
		}
		_ = unix.Madvise(chunk, unix.MADV_HUGEPAGE) // only makes it faster
		for i := 0; i < len(chunk); i += 4096 {
			chunk[i] = 1
		}
		r.chunks = append(r.chunks, chunk)
	}
	ctx, r.stop = context.WithCancel(ctx)
	r.group.Go(func() { r.feed(ctx) })
	return nil
}

// feed lets go of chunks as memory gets short.
func (r *reserve) feed(ctx context.Context) {
	tick := time.NewTicker(reserveLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for len(r.chunks) > 0 {
			if free, err := freeMemory(); err != nil || free >= reserveFloor {
				break
			}
			r.letGo()
		}
	}
}

func (r *reserve) letGo() {
	last := len(r.chunks) - 1
	_ = unix.Munmap(r.chunks[last])
	r.chunks = r.chunks[:last]
}

// rest stops letting go and keeps what is left for the next hold.
func (r *reserve) rest() {
	if r.stop != nil {
		r.stop()
		r.group.Wait()
		r.stop = nil
	}
}

// close gives back all that is left. It may be called twice.
func (r *reserve) close() {
	r.rest()
	for len(r.chunks) > 0 {
		r.letGo()
	}
}

// freeMemory is the machine's memory in bytes that nobody uses, not even as disk cache.
func freeMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	return int64(info.Freeram) * int64(info.Unit), nil
}
