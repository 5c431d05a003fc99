package blobstore

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/pullonce/pullonce/oci"
)

// A records bounds the small facts that others keep in the index: what a tag resolved to, tag lists, referrers. They
// are a cache: they survive a restart but not the loss of the index. When there are too many the oldest go.
type records struct {
	index    *index
	max      int
	maxBytes int64

	mu    sync.Mutex
	known map[string]recordInfo // by kind NUL key
	bytes int64
}

type recordInfo struct {
	stored, expires int64 // Unix nanoseconds; expires 0: never
	size            int
}

func newRecords(x *index, limit int, maxBytes int64) *records {
	r := &records{index: x, max: limit, maxBytes: maxBytes, known: make(map[string]recordInfo)}
	_ = x.view(func(tx *bolt.Tx) error { // without an index there are none
		b := tx.Bucket([]byte(recordBucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, raw []byte) error {
			if info, _, ok := parseRecord(raw); ok {
				r.known[string(key)] = info
				r.bytes += int64(info.size + len(key))
			}
			return nil
		})
	})
	return r
}

func marshalRecord(info recordInfo, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16+len(value)), uint64(info.stored))
	b = binary.BigEndian.AppendUint64(b, uint64(info.expires))
	return seal(append(b, value...))
}

func parseRecord(raw []byte) (recordInfo, []byte, bool) {
	raw, ok := unseal(raw)
	if !ok || len(raw) < 16 {
		return recordInfo{}, nil, false
	}
	return recordInfo{
		stored:  int64(binary.BigEndian.Uint64(raw)),
		expires: int64(binary.BigEndian.Uint64(raw[8:])),
		size:    len(raw) - 16,
	}, raw[16:], true
}

// PutRecord keeps a small value under a kind ("tag", "tags", "referrers") and a key until it expires; the zero time
// never. A record is a cache: it survives a restart, and the oldest go when there are too many.
func (s *Store) PutRecord(kind, key string, value []byte, expires time.Time) error {
	if kind == "" || strings.ContainsRune(kind, 0) || len(kind)+len(key)+1 > bolt.MaxKeySize {
		return fmt.Errorf("keep record: kind %q with a key of %d bytes", kind, len(key))
	}
	info := recordInfo{stored: time.Now().UnixNano(), size: len(value)}
	if !expires.IsZero() {
		info.expires = expires.UnixNano()
	}
	name := kind + "\x00" + key
	if int64(len(value)+len(name)) > s.cfg.MaxRecordBytes/2 {
		return fmt.Errorf("keep record %s %q: %w", kind, key, oci.ErrTooLarge)
	}
	s.records.put(name, info, value)
	return nil
}

// Record is the value kept under kind and key and when it was stored. The value must not be changed. The error is
// oci.ErrNotFound.
func (s *Store) Record(kind, key string) (value []byte, stored time.Time, err error) {
	name := kind + "\x00" + key
	if value, info, ok := s.records.get(name); ok {
		return value, time.Unix(0, info.stored), nil
	}
	return nil, time.Time{}, fmt.Errorf("record %s %q: %w", kind, key, oci.ErrNotFound)
}

// DropRecord forgets a record; without one it does nothing.
func (s *Store) DropRecord(kind, key string) { s.records.drop(kind + "\x00" + key) }

func (r *records) put(name string, info recordInfo, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unaccount(name)
	r.known[name] = info
	r.bytes += int64(info.size + len(name))
	r.index.put(recordBucket, name, marshalRecord(info, value))
	if len(r.known) > r.max || r.bytes > r.maxBytes {
		r.shrink()
	}
}

func (r *records) get(name string) (value []byte, info recordInfo, ok bool) {
	r.mu.Lock()
	info, ok = r.known[name]
	r.mu.Unlock()
	if !ok {
		return nil, info, false
	}
	if info.expires != 0 && time.Now().UnixNano() >= info.expires {
		r.drop(name)
		return nil, info, false
	}
	info, value, ok = parseRecord(r.index.get(recordBucket, name))
	if !ok {
		r.drop(name)
		return nil, info, false
	}
	return value, info, true
}

func (r *records) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unaccount(name) {
		r.index.put(recordBucket, name, nil)
	}
}

func (r *records) unaccount(name string) bool {
	info, ok := r.known[name]
	if ok {
		r.bytes -= int64(info.size + len(name))
		delete(r.known, name)
	}
	return ok
}

// shrink lets expired records go and then the oldest, down to nine tenths, so that not every put sorts. The caller
// holds mu.
func (r *records) shrink() {
	names := make([]string, 0, len(r.known))
	for name := range r.known {
		names = append(names, name)
	}
	now := time.Now().UnixNano()
	age := func(name string) int64 {
		if info := r.known[name]; info.expires == 0 || info.expires > now {
			return info.stored
		}
		return 0
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(age(a), age(b)) })
	for _, name := range names {
		if len(r.known) <= r.max*9/10 && r.bytes <= r.maxBytes*9/10 {
			return
		}
		r.unaccount(name)
		r.index.put(recordBucket, name, nil)
	}
}
