package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
)

// checkIndexSize refuses a file that was cut short: reading a mapped page past the end would end the process. The two
// first pages hold, at fixed places, the page size and the number of pages in use.
func checkIndexSize(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil
	}
	const header, pageSizeAt, pagesAt = 16, 8, 40
	page := make([]byte, header+64)
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		if _, err := f.ReadAt(page, at); err != nil {
			return fmt.Errorf("index of %d bytes: %w", info.Size(), err)
		}
		size := int64(binary.NativeEndian.Uint32(page[header+pageSizeAt:]))
		pages := binary.NativeEndian.Uint64(page[header+pagesAt:])
		if size != int64(os.Getpagesize()) || pages > uint64(info.Size()/size) {
			return fmt.Errorf("index of %d bytes says %d pages of %d", info.Size(), pages, size)
		}
	}
	return nil
}

// A damageError says that the index's file is not what it should be.
type damageError struct{ cause any }

func (e *damageError) Error() string { return fmt.Sprintf("index damaged: %v", e.cause) }

// guard runs f and turns a panic, also one over a fault in mapped memory, into an error: damage in a cache must not
// end the process.
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = &damageError{p}
		}
	}()
	return f()
}

// rebuild begins the index anew from what memory knows, after damage showed while the node runs. Records that are not
// queued are lost, as a cache may be.
func (x *index) rebuild() error {
	if err := x.store.remove(indexName); err != nil {
		return err
	}
	if _, err := x.open(); err != nil {
		return err
	}
	x.damaged.Store(false)
	for _, e := range x.store.snapshot() {
		x.putEntry(e)
		e.mu.Lock()
		l := e.list
		e.mu.Unlock()
		if l != nil {
			x.putList(l)
		}
	}
	return nil
}
