package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// warm has the memory for what comes next at hand, until the figure is done, and writes so many bytes to a file, which
// is what the disk cache costs by itself, in CPU-s per GiB.
func (b *bench) warm(ctx context.Context, bytes int64) (float64, error) {
	if err := b.memory.hold(ctx); err != nil {
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
