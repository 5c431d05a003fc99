package blobstore

import (
	"log/slog"
	"os"
	"slices"
)

// A faultyDisk asks before each operation whether it fails.
type faultyDisk struct {
	osDisk
	fault func(op, name string) error
}

// OpenFaulty opens a store whose disk fails where fault returns an error. The operations are open, read, write,
// truncate, sync and rename.
func OpenFaulty(cfg Config, log *slog.Logger, fault func(op, name string) error) (*Store, error) {
	return open(cfg, log, faultyDisk{fault: fault})
}

func (d faultyDisk) open(root *os.Root, name string, flag int) (*os.File, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := d.fault(op, name); err != nil {
		return nil, &os.PathError{Op: "openat", Path: name, Err: err}
	}
	return d.osDisk.open(root, name, flag)
}

func (d faultyDisk) readAt(f *os.File, data []byte, off int64) error {
	if err := d.fault("read", f.Name()); err != nil {
		return &os.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return d.osDisk.readAt(f, data, off)
}

func (d faultyDisk) writeAt(f *os.File, off int64, parts ...[]byte) error {
	data := slices.Concat(parts...)
	if err := d.fault("write", f.Name()); err != nil {
		_ = d.osDisk.writeAt(f, off, data[:len(data)/2]) // a disk that fails may have taken a part
		return &os.PathError{Op: "write", Path: f.Name(), Err: err}
	}
	return d.osDisk.writeAt(f, off, parts...)
}

func (d faultyDisk) truncate(f *os.File, size int64) error {
	if err := d.fault("truncate", f.Name()); err != nil {
		return &os.PathError{Op: "truncate", Path: f.Name(), Err: err}
	}
	return d.osDisk.truncate(f, size)
}

func (d faultyDisk) syncData(f *os.File) error {
	if err := d.fault("sync", f.Name()); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return d.osDisk.syncData(f)
}

func (d faultyDisk) rename(root *os.Root, from, to string) error {
	if err := d.fault("rename", to); err != nil {
		return &os.LinkError{Op: "renameat", Old: from, New: to, Err: err}
	}
	return d.osDisk.rename(root, from, to)
}

// ParseMeta, ParseState and ParseKnown read and write again what is kept on disk.
func ParseMeta(raw []byte) ([]byte, error) {
	m, err := parseMeta(raw)
	if err != nil {
		return nil, err
	}
	return m.marshal(), nil
}

func ParseState(raw []byte) ([]byte, error) {
	st, err := parseState(raw)
	if err != nil {
		return nil, err
	}
	return st.marshal(), nil
}

func ParseRecord(raw []byte) ([]byte, bool) {
	info, value, ok := parseRecord(raw)
	if !ok {
		return nil, false
	}
	return marshalRecord(info, value), true
}

func ParseKnown(raw []byte) ([]byte, bool) {
	k, ok := parseKnown(raw)
	if !ok {
		return nil, false
	}
	return k.marshal(), true
}

// Seal puts the checksum before data that the files carry.
func Seal(data []byte) []byte { return seal(data) }

// StateOf is the state file that p would write now.
func StateOf(p *Partial) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state().marshal()
}

// Extents is a set of byte ranges as the store keeps those that are unchecked.
type Extents struct{ set extents }

func (e *Extents) Add(from, to int64)  { e.set = e.set.add(from, to) }
func (e *Extents) End(off int64) int64 { return e.set.end(off) }
func (e *Extents) Ranges() (all [][2]int64) {
	for _, x := range e.set {
		all = append(all, [2]int64{x.from, x.to})
	}
	return all
}

// ParseUploadState reads and writes again what is kept beside an upload.
func ParseUploadState(raw []byte) ([]byte, error) {
	st, err := parseUploadState(raw)
	if err != nil {
		return nil, err
	}
	return st.marshal(), nil
}

// StateOfUpload is the state file that u would write now.
func StateOfUpload(u *Upload) []byte {
	return uploadState{repo: u.repo, created: u.created, lastUse: u.created, tally: u.tally}.marshal()
}
