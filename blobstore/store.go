package blobstore

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// maxChecks bounds how many pieces are checked at once, on however many cores.
const maxChecks = 16

// A Store keeps blobs in one directory, which is its own until Close. It may be shared by goroutines.
type Store struct {
	cfg   Config
	log   *slog.Logger
	disk  disk
	root  *os.Root
	lock  *os.File
	index *index

	manifests     *manifestCache
	records       *records
	uploads       *uploads
	buffers       sync.Pool     // of *[]byte, to check pieces in
	uploadBuffers sync.Pool     // of *[]byte
	checks        chan struct{} // one slot for each piece that is being checked: however many read, memory stays bounded
	count         counters

	// digests orders what is done to the files of one blob (commit, rot, removal, opening a partial blob). It is held
	// over I/O on purpose and guards no memory that a reader waits for.
	digests [64]sync.Mutex
	seed    maphash.Seed

	usedMu sync.Mutex
	used   map[*entry]struct{} // whose last use is to be put down

	mu       sync.RWMutex
	entries  map[oci.Digest]*entry       // whole blobs
	partials map[oci.Digest]*Partial     // open partial blobs
	idle     map[oci.Digest]*idlePartial // partial blobs on disk that nobody has open
	hosted   map[oci.Digest]*entry       // those of entries that are
	changes  uint64                      // of what is hosted
	bytes    int64                       // of whole blobs
	apart    int64                       // of them, of hosted ones
	closed   bool

	alarmMu sync.Mutex
	alarm   string

	reserved       atomic.Int64 // bytes of cached blobs that have their room and are not known yet
	reservedApart  atomic.Int64 // bytes of hosted ones
	memoryPartials atomic.Int64 // open partial blobs that live in memory
	temps          atomic.Int64 // makes names of temporary files differ
	recheck        chan *Partial
	kick           chan struct{} // tells Run that there is something to evict
}

// Open opens the store of cfg.Dir and makes it when it is missing. What a crash left behind is adopted or cleaned; an
// index that is lost, old or damaged is made anew from the files. A directory that another process has open is a
// *LockedError. Close gives the directory back.
func Open(cfg Config, log *slog.Logger) (*Store, error) { return open(cfg, log, osDisk{}) }

func open(cfg Config, log *slog.Logger, d disk) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.filled()
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil && !errors.Is(err, syscall.EROFS) {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	held, err := lock(root, cfg.Dir)
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: log, disk: d, root: root, lock: held,
		manifests: newManifestCache(cfg.ManifestCache),
		uploads:   newUploads(),
		seed:      maphash.MakeSeed(),
		used:      make(map[*entry]struct{}),
		entries:   make(map[oci.Digest]*entry),
		hosted:    make(map[oci.Digest]*entry),
		partials:  make(map[oci.Digest]*Partial),
		idle:      make(map[oci.Digest]*idlePartial),
		recheck:   make(chan *Partial, 64),
		checks:    make(chan struct{}, min(maxChecks, runtime.GOMAXPROCS(0))),
		kick:      make(chan struct{}, 1),
	}
	if err := s.load(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	return s, nil
}

// load brings the files, the index and the memory in line.
func (s *Store) load() error {
	for _, dir := range []string{blobsDir, partialDir, uploadsDir} {
		if err := s.makeDirs(dir); err != nil && !diskFailed(err) {
			return err
		} else if err != nil {
			s.raise("directory not made", err)
		}
	}
	known, err := openIndex(s)
	if err != nil {
		s.raise("index not opened, going on without", err)
	}
	s.records = newRecords(s.index, s.cfg.MaxRecords, s.cfg.MaxRecordBytes)
	if err := s.walkBlobs(known); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.walkPartials(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.walkUploads(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close puts everything down and gives the directory back. Open blobs and partial blobs can be read until they are
// closed themselves. It may be called twice; Run must have returned.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := make([]*Partial, 0, len(s.partials))
	for _, p := range s.partials {
		open = append(open, p)
	}
	s.mu.Unlock()
	for _, p := range open {
		p.save()
	}
	var errs []error
	if s.index != nil {
		s.saveUses()
		errs = append(errs, s.index.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(append(errs, s.root.Close())...)
}

// lockDigest keeps others from changing the files of d until the returned function is called.
func (s *Store) lockDigest(d oci.Digest) (unlock func()) {
	mu := &s.digests[maphash.String(s.seed, d.String())%uint64(len(s.digests))]
	mu.Lock()
	return mu.Unlock
}

// buffer lends n bytes to check a piece in until give is called. It waits while as many are lent as the machine can
// hash at once.
func (s *Store) buffer(n int64) (buf []byte, give func()) {
	s.checks <- struct{}{}
	kept, ok := s.buffers.Get().(*[]byte)
	if !ok || int64(cap(*kept)) < n {
		fresh := make([]byte, n)
		kept = &fresh
	}
	return (*kept)[:n], func() {
		s.buffers.Put(kept)
		<-s.checks
	}
}

// Delete removes a whole blob, its links and, when nobody has it open, its partial blob. Open readers go on. Without
// the blob it does nothing.
func (s *Store) Delete(d oci.Digest) error {
	defer s.lockDigest(d)()
	if err := s.removeIdle(d); err != nil {
		return fmt.Errorf("delete partial blob %s: %w", d, err)
	}
	if err := s.removeWhole(d); err != nil {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// removeWhole takes a whole blob from memory, index and disk, in this order: a crash in between leaves a blob, never a
// name without bytes. The sidecar goes last, since a blob without one would be taken for one that no one has linked.
func (s *Store) removeWhole(d oci.Digest) error {
	if s.forget(d) == nil {
		return nil
	}
	if err := s.remove(blobPath(d)); err != nil {
		return err
	}
	return s.remove(metaPath(d))
}

// forget takes a whole blob from memory and index.
func (s *Store) forget(d oci.Digest) *entry {
	s.mu.Lock()
	e := s.entries[d]
	if e != nil {
		delete(s.entries, d)
		s.bytes -= e.size()
		s.unhost(d)
	}
	s.mu.Unlock()
	s.manifests.remove(d)
	if e != nil {
		s.index.removeEntry(d)
	}
	return e
}

// adopt makes e known as a whole blob.
func (s *Store) adopt(e *entry) {
	s.mu.Lock()
	if old := s.entries[e.digest]; old != nil {
		s.bytes -= old.size()
	}
	s.entries[e.digest] = e
	s.bytes += e.size()
	s.mu.Unlock()
	s.sort(e)
	s.index.putEntry(e)
}

// tempName is a name in the directory of partial blobs that no one else uses.
func (s *Store) tempName() string {
	return fmt.Sprintf("%s/put-%d-%d%s", partialDir, time.Now().UnixNano(), s.temps.Add(1), tempSuffix)
}
