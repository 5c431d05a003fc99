package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
)

// Buckets of the store. A change of what is in them changes the name.
const (
	logBucket    = "log.1"    // index, 8 bytes big-endian -> entry
	stableBucket = "stable.1" // what raft keeps beside the log
	metaBucket   = "meta.1"   // epochKey, sizeKey -> 8 bytes big-endian
	epochKey     = "epoch"    // of the journal whose entries are not in logBucket yet
	sizeKey      = "journal"  // bytes that the journal has
)

const defaultJournalBytes = 8 << 20

// logOptions say how a logStore works.
type logOptions struct {
	journalBytes int64 // size of the journal when it is made; 0 means 8 MiB
	noSync       bool  // for tests that cut no power: nothing waits for the disk
}

// A logStore is raft's log and stable store in one bbolt file, with a journal before the log: bbolt syncs twice for
// each transaction, the journal once. New entries go to the journal, and into bbolt when the journal is full.
//
// It may be shared by goroutines. Entries have no gaps: each follows the last, unless the log is empty.
type logStore struct {
	db      *bolt.DB
	journal *journal

	writing sync.Mutex // one writer at a time; it is held while the disk works
	unsure  bool       // a write went wrong: nothing goes to the journal before bbolt has what is in memory

	mu          sync.RWMutex
	first, last uint64      // 0 while the log is empty
	recent      []*raft.Log // the last entries, which are in the journal alone
	closed      bool
}

// openLog opens the store at path, whose journal lies beside it, or makes it. All entries that StoreLogs has
// acknowledged are there.
func openLog(path string, o logOptions) (*logStore, error) {
	if o.journalBytes == 0 {
		o.journalBytes = defaultJournalBytes
	}
	db, err := openBolt(path, o)
	if err != nil {
		return nil, fmt.Errorf("open log of the catalog: %w", err)
	}
	s := &logStore{db: db}
	if err = s.open(path+".journal", o); err != nil {
		return nil, errors.Join(fmt.Errorf("open log of the catalog: %w", err), s.Close())
	}
	return s, nil
}

// openBolt turns the panics by which bbolt says that a file is damaged into errors.
func openBolt(path string, o logOptions) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s is damaged: %v", filepath.Base(path), r)
		}
	}()
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoFreelistSync: true, NoSync: o.noSync,
	})
}

func (s *logStore) open(path string, o logOptions) error {
	epoch, size, err := s.load()
	if err != nil {
		return err
	}
	if epoch == 0 {
		return s.create(path, o)
	}
	// The journal has to be there: without it acknowledged entries would be gone, and raft be none the wiser.
	if s.journal, err = openJournal(path, size, o.noSync); err != nil {
		return err
	}
	entries, err := s.journal.replay(epoch)
	if err != nil {
		return err
	}
	return s.extend(entries)
}

// load makes the buckets and reads the bounds of the log, and what is known of the journal: nothing in a new store.
func (s *logStore) load() (epoch uint64, size int64, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{logBucket, stableBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		s.first, s.last = bounds(tx)
		meta := tx.Bucket([]byte(metaBucket))
		epoch, size = keyIndex(meta.Get([]byte(epochKey))), int64(keyIndex(meta.Get([]byte(sizeKey))))
		return nil
	})
	return epoch, size, err
}

// create makes the journal of a new store, which is a store from when it has an epoch.
func (s *logStore) create(path string, o logOptions) (err error) {
	if s.journal, err = createJournal(path, o.journalBytes/journalBlock*journalBlock, o.noSync); err != nil {
		return err
	}
	s.journal.begin(1)
	return s.db.Update(func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		return errors.Join(
			meta.Put([]byte(epochKey), indexKey(1)),
			meta.Put([]byte(sizeKey), indexKey(uint64(s.journal.size))),
		)
	})
}

// extend adds entries that follow the last.
func (s *logStore) extend(entries []*raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last
	for _, l := range entries {
		if l.Index == 0 || last > 0 && l.Index != last+1 {
			return fmt.Errorf("entry %d does not follow %d", l.Index, last)
		}
		last = l.Index
	}
	if len(entries) == 0 {
		return nil
	}
	if s.first == 0 {
		s.first = entries[0].Index
	}
	s.last = last
	s.recent = append(s.recent, entries...)
	return nil
}

// IsMonotonic says that entries have no gaps.
func (s *logStore) IsMonotonic() bool { return true }

// FirstIndex is that of the first entry, 0 when there is none.
func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, nil
}

// LastIndex is that of the last entry, 0 when there is none.
func (s *logStore) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.last, nil
}

// GetLog reads an entry into l; raft.ErrLogNotFound when it is not there.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	if recent := s.recently(index); recent != nil {
		*l = *recent
		return nil
	}
	return s.db.View(func(tx *bolt.Tx) error {
		raw := tx.Bucket([]byte(logBucket)).Get(indexKey(index))
		if raw == nil {
			return raft.ErrLogNotFound
		}
		if err := readEntry(raw, l); err != nil || l.Index != index {
			return fmt.Errorf("read entry %d: %w", index, errors.Join(errEntry, err))
		}
		return nil
	})
}

// recently is an entry that is in the journal alone, or nil.
func (s *logStore) recently(index uint64) *raft.Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.recent) == 0 || index < s.recent[0].Index || index > s.last {
		return nil
	}
	return s.recent[index-s.recent[0].Index]
}

// StoreLog is StoreLogs of one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs adds entries that follow the last. When it returns nil they are on disk; it has synced once, or thrice when
// the journal was full. The entries must not be changed afterwards.
func (s *logStore) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.follows(entries); err != nil {
		return err
	}
	if s.unsure || !s.journal.fits(entries) {
		if err := s.settle(entries, 0, 0); err != nil {
			return fmt.Errorf("store entries from %d: %w", entries[0].Index, err)
		}
		return nil
	}
	if err := s.journal.write(entries); err != nil {
		s.unsure = true
		return fmt.Errorf("store entries from %d: %w", entries[0].Index, err)
	}
	return s.extend(entries)
}

// follows tells whether entries can be added.
func (s *logStore) follows(entries []*raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	last := s.last
	for _, l := range entries {
		if l.Index == 0 || last > 0 && l.Index != last+1 {
			return fmt.Errorf("store entry %d: it does not follow %d", l.Index, last)
		}
		last = l.Index
	}
	return nil
}

// deleteAtOnce is how many entries of the beginning are deleted while others who store wait.
const deleteAtOnce = 8192

// DeleteRange deletes the entries from low to high, both included, from the beginning or the end of the log. Of a long
// range at the beginning an error or a crash may leave the later part.
func (s *logStore) DeleteRange(low, high uint64) error {
	s.mu.RLock()
	first, last := s.first, s.last
	s.mu.RUnlock()
	if low <= first && high < last {
		for ; high >= first+deleteAtOnce; first += deleteAtOnce {
			if err := s.deletePart(first, first+deleteAtOnce-1); err != nil {
				return err
			}
		}
		low = first
	}
	return s.deletePart(low, high)
}

// deletePart deletes a range in one transaction.
func (s *logStore) deletePart(low, high uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	first, last := s.first, s.last
	s.mu.RUnlock()
	if last == 0 || low > high || high < first || low > last {
		return nil
	}
	if low > first && high < last {
		return fmt.Errorf("delete entries %d to %d: the log of %d to %d would have a gap", low, high, first, last)
	}
	if err := s.settle(nil, max(low, first), min(high, last)); err != nil {
		return fmt.Errorf("delete entries %d to %d: %w", low, high, err)
	}
	return nil
}

// settle moves what is in the journal alone into bbolt, and more entries after it, all but those from low to high,
// which it deletes; and begins a new epoch. The journal is void from the moment when bbolt has it all.
func (s *logStore) settle(more []*raft.Log, low, high uint64) error {
	s.mu.RLock()
	recent := s.recent
	s.mu.RUnlock()
	epoch := s.journal.epoch + 1
	var first, last uint64
	err := s.db.Update(func(tx *bolt.Tx) error {
		log := tx.Bucket([]byte(logBucket))
		if err := deleteRange(log, low, high); err != nil {
			return err
		}
		for _, entries := range [][]*raft.Log{recent, more} {
			if err := putEntries(log, entries, low, high); err != nil {
				return err
			}
		}
		first, last = bounds(tx)
		return tx.Bucket([]byte(metaBucket)).Put([]byte(epochKey), indexKey(epoch))
	})
	if s.unsure = err != nil; s.unsure {
		return err
	}
	s.journal.begin(epoch)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.last, s.recent = first, last, nil
	return nil
}

// putEntries puts entries, all but those from low to high.
func putEntries(log *bolt.Bucket, entries []*raft.Log, low, high uint64) error {
	log.FillPercent = 1 // keys only grow
	for _, l := range entries {
		if l.Index >= low && l.Index <= high {
			continue
		}
		if err := log.Put(indexKey(l.Index), appendEntry(nil, l)); err != nil {
			return err
		}
	}
	return nil
}

func deleteRange(log *bolt.Bucket, low, high uint64) error {
	c := log.Cursor()
	for k, _ := c.Seek(indexKey(low)); k != nil && keyIndex(k) <= high; k, _ = c.Seek(indexKey(low)) {
		low = keyIndex(k) + 1 // to look from the beginning would pass over all pages that were emptied so far
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// bounds are the first and the last index in bbolt.
func bounds(tx *bolt.Tx) (first, last uint64) {
	c := tx.Bucket([]byte(logBucket)).Cursor()
	low, _ := c.First()
	if low == nil {
		return 0, 0 // on pages that were emptied in this transaction, bbolt's Last never returns
	}
	high, _ := c.Last()
	return keyIndex(low), keyIndex(high)
}

// Close gives the files back. Nothing has to be put down before.
func (s *logStore) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	err := s.db.Close()
	if s.journal != nil {
		err = errors.Join(err, s.journal.close())
	}
	return err
}

func indexKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// keyIndex reads what indexKey wrote; 0 for nothing.
func keyIndex(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
