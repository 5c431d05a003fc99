package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// Buckets of the index. A change of what is in them changes the name, and the old bucket is not read.
const (
	entryBucket  = "blobs.1"   // digest -> last use, stamp of the sidecar, sidecar
	listBucket   = "lists.1"   // digest -> piece list whose chain has closed
	recordBucket = "records.1" // kind NUL key -> stored, expires, value
)

// maxQueued is how many bytes of changes wait in memory before they are put down out of turn.
const maxQueued = 8 << 20

// An index is a cache of the files in bbolt. Changes are queued in memory and put down once a sync interval in one
// synced transaction: nobody waits for its fsync, an idle node writes nothing, and bbolt's own guarantee holds over a
// power cut. (Without syncing, bbolt would be as fast but could come back damaged, and a damaged page can end the
// process when it is touched.) What a crash loses of the queue is found again by walking the files.
type index struct {
	store *Store
	path  string

	dbMu sync.RWMutex
	db   *bolt.DB // nil when the index cannot be used; the memory then does alone

	mu       sync.Mutex
	queue    map[indexKey][]byte // a nil value deletes
	flushing map[indexKey][]byte // being put down
	queued   int                 // bytes
	lists    []oci.Digest        // whose partial state may go once the queue is down

	flushMu sync.Mutex // one flush at a time
}

type indexKey struct{ bucket, key string }

// A knownBlob is what the index remembers of a whole blob.
type knownBlob struct {
	lastUse int64
	stamp   stamp
	meta    meta
}

// openIndex opens the index and reads what it knows of whole blobs. One that cannot be read is thrown away. The
// store's index is set in any case.
func openIndex(s *Store) (map[oci.Digest]knownBlob, error) {
	x := &index{store: s, path: filepath.Join(s.cfg.Dir, indexName), queue: make(map[indexKey][]byte)}
	s.index = x
	known, err := x.open()
	if err == nil {
		return known, nil
	}
	if _, statErr := s.root.Stat(indexName); statErr == nil {
		s.log.Warn("index damaged, made anew from the files", "error", err.Error())
	}
	if err := s.remove(indexName); err != nil {
		return nil, err
	}
	return x.open()
}

// open opens the file as it is and looks at all of it, so that damage shows now.
func (x *index) open() (known map[oci.Digest]knownBlob, err error) {
	if err := checkIndexSize(x.path); err != nil {
		return nil, err
	}
	options := &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	err = guard(func() error {
		db, err := bolt.Open(x.path, 0o600, options)
		if err != nil {
			return err
		}
		x.db = db
		known, err = readIndex(db)
		return err
	})
	if err != nil && x.db != nil {
		_ = guard(x.db.Close)
		x.db = nil
	}
	return known, err
}

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

func readIndex(db *bolt.DB) (map[oci.Digest]knownBlob, error) {
	known := make(map[oci.Digest]knownBlob)
	err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		b := tx.Bucket([]byte(entryBucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, value []byte) error {
			d, err := oci.ParseDigest(string(key))
			if err != nil {
				return err
			}
			if k, ok := parseKnown(value); ok {
				known[d] = k
			}
			return nil
		})
	})
	return known, err
}

func (k knownBlob) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(k.lastUse))
	b = binary.BigEndian.AppendUint64(b, uint64(k.stamp.ModTime))
	b = binary.BigEndian.AppendUint64(b, uint64(k.stamp.Size))
	return seal(append(b, k.meta.marshal()...))
}

func parseKnown(raw []byte) (knownBlob, bool) {
	raw, ok := unseal(raw)
	if !ok || len(raw) < 24 {
		return knownBlob{}, false
	}
	m, err := parseMeta(raw[24:])
	return knownBlob{
		lastUse: int64(binary.BigEndian.Uint64(raw)),
		stamp:   stamp{ModTime: int64(binary.BigEndian.Uint64(raw[8:])), Size: int64(binary.BigEndian.Uint64(raw[16:]))},
		meta:    m,
	}, err == nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum before data, unseal takes it off and tells whether it held.
func seal(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)), data...)
}

func unseal(raw []byte) ([]byte, bool) {
	if len(raw) < 4 {
		return nil, false
	}
	return raw[4:], binary.BigEndian.Uint32(raw) == crc32.Checksum(raw[4:], castagnoli)
}

func (x *index) putEntry(e *entry) {
	e.mu.Lock()
	k := knownBlob{lastUse: e.lastUse.Load(), stamp: e.stamp, meta: e.meta}
	e.mu.Unlock()
	x.put(entryBucket, e.digest.String(), k.marshal())
}

func (x *index) removeEntry(d oci.Digest) {
	x.put(entryBucket, d.String(), nil)
	x.put(listBucket, d.String(), nil)
}

// putList keeps a list whose chain has closed.
func (x *index) putList(l *piece.List) {
	raw, err := l.MarshalBinary()
	if err == nil {
		x.put(listBucket, l.Digest().String(), seal(raw))
	}
}

// list is the piece list of d, or nil when it is not known.
func (x *index) list(d oci.Digest, size int64) *piece.List {
	raw, ok := unseal(x.get(listBucket, d.String()))
	if !ok {
		return nil
	}
	l, err := piece.UnmarshalList(raw)
	if err != nil || l.Digest() != d || l.Size() != size || l.Known() != l.Count() {
		return nil
	}
	return l
}

func (x *index) put(bucket, key string, value []byte) {
	x.mu.Lock()
	x.queue[indexKey{bucket, key}] = value
	x.queued += len(value) + len(key)
	full := x.queued > maxQueued
	x.mu.Unlock()
	if full { // the caller may hold a lock that a flush needs
		x.store.wakeRun()
	}
}

// adoptable notes that the state of d's partial blob was left on disk as the keeper of its piece list until the index
// has it.
func (x *index) adoptable(d oci.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lists = append(x.lists, d)
}

// get is the value of key, or nil; it must not be changed.
func (x *index) get(bucket, key string) []byte {
	x.mu.Lock()
	value, ok := x.queue[indexKey{bucket, key}]
	if !ok {
		value, ok = x.flushing[indexKey{bucket, key}]
	}
	x.mu.Unlock()
	if ok {
		return value
	}
	err := x.view(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if found := b.Get([]byte(key)); found != nil {
				value = append([]byte{}, found...)
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return value
}

func (x *index) view(f func(*bolt.Tx) error) error {
	x.dbMu.RLock()
	defer x.dbMu.RUnlock()
	if x.db == nil {
		return ErrClosed
	}
	return guard(func() error { return x.db.View(f) })
}

// flush puts the queue down. What cannot be put down stays queued as long as it is small; then it is let go, since the
// files have it.
func (x *index) flush() error {
	x.flushMu.Lock()
	defer x.flushMu.Unlock()
	x.mu.Lock()
	batch := x.queue
	x.flushing, x.queue, x.queued = batch, make(map[indexKey][]byte), 0
	lists := x.lists
	x.lists = nil
	x.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := x.update(batch)
	if _, damaged := errors.AsType[*damageError](err); damaged {
		err = x.rebuild(err)
	}
	x.mu.Lock()
	x.flushing = nil
	if err != nil {
		x.requeue(batch)
	}
	x.mu.Unlock()
	if err == nil {
		x.store.removeAdoptable(lists)
	}
	return err
}

// requeue puts a batch back under what has been queued since. The caller holds mu.
func (x *index) requeue(batch map[indexKey][]byte) {
	for key, value := range batch {
		if _, newer := x.queue[key]; !newer && x.queued < maxQueued/2 {
			x.queue[key] = value
			x.queued += len(value) + len(key.key)
		}
	}
}

func (x *index) update(batch map[indexKey][]byte) error {
	x.dbMu.RLock()
	defer x.dbMu.RUnlock()
	if x.db == nil {
		return ErrClosed
	}
	return guard(func() error {
		return x.db.Update(func(tx *bolt.Tx) error {
			for key, value := range batch {
				b, err := tx.CreateBucketIfNotExists([]byte(key.bucket))
				if err != nil {
					return err
				}
				if value == nil {
					err = b.Delete([]byte(key.key))
				} else {
					err = b.Put([]byte(key.key), value)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// rebuild begins the index anew from what memory knows, after damage showed while the node runs. The batch that met
// it is queued again by the caller. Records are lost, as a cache may be.
func (x *index) rebuild(cause error) error {
	x.store.log.Warn("index damaged, made anew", "error", cause.Error())
	x.dbMu.Lock()
	if x.db != nil {
		_ = guard(x.db.Close)
		x.db = nil
	}
	err := x.store.remove(indexName)
	if err == nil {
		_, err = x.open()
	}
	x.dbMu.Unlock()
	for _, e := range x.store.snapshot() {
		x.putEntry(e)
		e.mu.Lock()
		l := e.list
		e.mu.Unlock()
		if l != nil {
			x.putList(l)
		}
	}
	return errors.Join(cause, err)
}

// reopen tries again to open an index that could not be opened at the start.
func (x *index) reopen() bool {
	x.dbMu.Lock()
	defer x.dbMu.Unlock()
	if x.db == nil {
		_, _ = x.open()
	}
	return x.db != nil
}

func (x *index) close() error {
	err := x.flush()
	x.dbMu.Lock()
	defer x.dbMu.Unlock()
	if x.db == nil {
		return nil
	}
	closeErr := guard(x.db.Close)
	x.db = nil
	if err != nil {
		x.store.log.Warn("index not put down, the next start reads the files", "error", err.Error())
	}
	return closeErr
}

func (x *index) flushIfFull() {
	x.mu.Lock()
	full := x.queued > maxQueued
	x.mu.Unlock()
	if full {
		_ = x.flush() // what stays queued is bounded
	}
}
