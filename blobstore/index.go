package blobstore

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
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

	db      atomic.Pointer[bolt.DB] // nil when the index cannot be used; the memory then does alone
	damaged atomic.Bool             // damage showed: db was given up and is made anew at the next flush

	mu       sync.Mutex
	queue    map[indexKey][]byte // a nil value deletes
	flushing map[indexKey][]byte // being put down
	queued   int                 // bytes
	lists    []oci.Digest        // whose partial state may go once the queue is down

	flushMu sync.Mutex // one flush at a time
}

type indexKey struct{ bucket, key string }

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
		if known, err = readIndex(db); err != nil {
			return errors.Join(err, db.Close())
		}
		x.db.Store(db)
		return nil
	})
	return known, err
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
	return x.use(func(db *bolt.DB) error { return db.View(f) })
}

// use runs f on the database. One that shows damage is given up there and then, without closing it: where bbolt met
// the damage it may have left its locks taken.
func (x *index) use(f func(*bolt.DB) error) error {
	db := x.db.Load()
	if db == nil {
		return ErrClosed
	}
	err := guard(func() error { return f(db) })
	if _, damaged := errors.AsType[*damageError](err); damaged && x.db.CompareAndSwap(db, nil) {
		x.store.log.Warn("index damaged, to be made anew", "error", err.Error())
		x.damaged.Store(true)
	}
	return err
}

// flush puts the queue down. What cannot be put down stays queued as long as it is small; then it is let go, since the
// files have it.
func (x *index) flush() error {
	x.flushMu.Lock()
	defer x.flushMu.Unlock()
	if x.damaged.Load() {
		if err := x.rebuild(); err != nil {
			return err
		}
	}
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
	return x.use(func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error { return apply(tx, batch) })
	})
}

func apply(tx *bolt.Tx, batch map[indexKey][]byte) error {
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
}

// reopen tries again to open an index that could not be opened at the start.
func (x *index) reopen() bool {
	x.flushMu.Lock()
	defer x.flushMu.Unlock()
	if x.db.Load() == nil && !x.damaged.Load() {
		_, _ = x.open()
	}
	return x.db.Load() != nil
}

func (x *index) close() error {
	if err := x.flush(); err != nil {
		x.store.log.Warn("index not put down, the next start reads the files", "error", err.Error())
	}
	db := x.db.Swap(nil)
	if db == nil {
		return nil
	}
	return guard(db.Close)
}

func (x *index) flushIfFull() {
	x.mu.Lock()
	full := x.queued > maxQueued
	x.mu.Unlock()
	if full {
		_ = x.flush() // what stays queued is bounded
	}
}
