package main

import (
	"errors"
	"os"
	"path/filepath"
)

// warm writes so many bytes to a file, removes it, and returns what that took in CPU-s per GiB. It has two uses. The
// memory for what comes next is there: under a hypervisor, the first use of a page that the host has not yet given, or
// has taken back, costs several times what writing to it does, and would be charged to whom it happens to meet. And the
// cost of the plain write stands beside the figure.
func (b *bench) warm(bytes int64) (float64, error) {
	// The second time is the one that counts: the first one may pay for the pages.
	if _, err := b.plainWrite(bytes); err != nil {
		return 0, err
	}
	return b.plainWrite(bytes)
}

func (b *bench) plainWrite(bytes int64) (cost float64, err error) {
	path := filepath.Join(b.dir, "plain-write")
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	before, err := cpuOf(os.Getpid())
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, mib)
	for written := int64(0); written < bytes; written += mib {
		if _, err := file.Write(buffer); err != nil {
			return 0, err
		}
	}
	after, err := cpuOf(os.Getpid())
	return (after - before).Seconds() / gibs(bytes), err
}
