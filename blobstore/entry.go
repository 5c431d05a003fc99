package blobstore

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// useResolution is how fine last-use times are kept: a hot blob is noted once in this time.
const useResolution = 60

// An entry is a whole blob as the store knows it in memory.
type entry struct {
	digest  oci.Digest
	lastUse atomic.Int64 // Unix seconds

	mu    sync.Mutex
	meta  meta          // written to the sidecar whenever it changes
	stamp stamp         // of that sidecar, as the index remembers it
	list  *piece.List   // its chain is closed; nil while not needed or not known
	check *verification // of the present scrub interval; nil before the first read
}

// A stamp tells whether a file is the one that the index read.
type stamp struct {
	ModTime int64 // Unix nanoseconds
	Size    int64
}

func newEntry(d oci.Digest, m meta) *entry {
	e := &entry{digest: d, meta: m}
	e.lastUse.Store(time.Now().Unix())
	return e
}

func (e *entry) snapshot() meta {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.meta
}

func (e *entry) size() int64 { return e.snapshot().Size }

// An Info is what the store knows about a whole blob.
type Info struct {
	Digest    oci.Digest
	Size      int64
	MediaType string         // "" when not known
	Origin    oci.Repository // the repository that the blob first came through; may be zero
	Hosted    bool           // it is never evicted
	LastUse   time.Time      // to about a minute
	Checked   bool           // all of its bytes were checked since the start and within the scrub interval
}

// Stat tells about a whole blob; oci.ErrNotFound when there is none. It does not count as a use.
func (s *Store) Stat(d oci.Digest) (Info, error) {
	e, err := s.entry(d)
	if err != nil {
		return Info{}, err
	}
	m := e.snapshot()
	return Info{
		Digest: d, Size: m.Size, MediaType: m.MediaType, Origin: m.Origin, Hosted: m.Hosted,
		LastUse: time.Unix(e.lastUse.Load(), 0), Checked: s.checked(e),
	}, nil
}

// Each calls f with every whole blob until f returns false. It sees the blobs of the moment of the call; f may call
// the store.
func (s *Store) Each(f func(d oci.Digest, size int64) bool) {
	for _, e := range s.snapshot() {
		if !f(e.digest, e.size()) {
			return
		}
	}
}

func (s *Store) snapshot() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, e)
	}
	return all
}

func (s *Store) entry(d oci.Digest) (*entry, error) {
	s.mu.RLock()
	e := s.entries[d]
	s.mu.RUnlock()
	if e == nil {
		return nil, fmt.Errorf("blob %s: %w", d, oci.ErrNotFound)
	}
	return e, nil
}

// touch notes that e is used now. It writes nothing: Run puts the times down in batches.
func (s *Store) touch(e *entry) {
	now := time.Now().Unix()
	last := e.lastUse.Load()
	if now-last < useResolution && now >= last || !e.lastUse.CompareAndSwap(last, now) {
		return
	}
	s.usedMu.Lock()
	s.used[e] = struct{}{}
	s.usedMu.Unlock()
}

// saveUses queues the last-use times that changed.
func (s *Store) saveUses() {
	s.usedMu.Lock()
	used := s.used
	s.used = make(map[*entry]struct{})
	s.usedMu.Unlock()
	for e := range used {
		if current, err := s.entry(e.digest); err == nil && current == e {
			s.index.putEntry(e)
		}
	}
}

// Link notes that repo has confirmed d, so that d may be read through it. The blob must be whole or partial here, else
// the error is oci.ErrNotFound. When the sidecar cannot be written the link holds until the node stops.
func (s *Store) Link(repo oci.Repository, d oci.Digest) error {
	return s.changeMeta(d, func(m meta) meta { return m.withLink(repo) })
}

// Unlink takes a link back. Without a link, or without the blob, it does nothing.
func (s *Store) Unlink(repo oci.Repository, d oci.Digest) error {
	if !s.Linked(repo, d) {
		return nil
	}
	return s.changeMeta(d, func(m meta) meta { return m.withoutLink(repo) })
}

// SetHosted marks a blob as hosted, so that it is never evicted, or as cached, so that it is again. The mark is on disk
// when it returns nil; oci.ErrNotFound: the blob is not here, ErrNotKept: the disk did not take it.
func (s *Store) SetHosted(d oci.Digest, hosted bool) error {
	return s.changeMeta(d, func(m meta) meta {
		m.Hosted = hosted
		return m
	})
}

// Linked tells whether repo has confirmed d. It reads memory only.
func (s *Store) Linked(repo oci.Repository, d oci.Digest) bool {
	m, ok := s.metaOf(d)
	return ok && m.linked(repo)
}

// Links are the repositories that have confirmed d, in no particular order.
func (s *Store) Links(d oci.Digest) []oci.Repository {
	m, _ := s.metaOf(d)
	return slices.Clone(m.Links)
}

func (s *Store) metaOf(d oci.Digest) (meta, bool) {
	s.mu.RLock()
	e, p, idle := s.entries[d], s.partials[d], s.idle[d]
	s.mu.RUnlock()
	switch {
	case e != nil:
		return e.snapshot(), true
	case p != nil:
		return p.snapshotMeta(), true
	case idle != nil:
		return idle.meta, true
	}
	return meta{}, false
}

// changeMeta changes what is known of a whole or partial blob and puts it down.
func (s *Store) changeMeta(d oci.Digest, change func(meta) meta) error {
	defer s.lockDigest(d)()
	if e, err := s.entry(d); err == nil {
		before := e.snapshot()
		after := change(before)
		if after.same(before) {
			return nil
		}
		if !after.sameMarks(before) {
			return s.setMeta(e, after)
		}
		s.saveMeta(e, after)
		return nil
	}
	s.mu.Lock()
	p, idle := s.partials[d], s.idle[d]
	if idle != nil {
		changed := *idle
		changed.meta = change(idle.meta)
		s.idle[d] = &changed
	}
	s.mu.Unlock()
	switch {
	case p != nil:
		p.changeMeta(change)
		return nil
	case idle != nil:
		return s.rewriteIdleMeta(d, change)
	}
	return fmt.Errorf("link blob %s: %w", d, oci.ErrNotFound)
}

// saveMeta sets e's meta and replaces its sidecar. A disk that does not take it is alarmed about and forgiven: the
// link was confirmed, so this pull goes on, and a later one can confirm it again.
func (s *Store) saveMeta(e *entry, m meta) {
	if err := s.writeMeta(e.digest, m); err != nil {
		s.raise("sidecar not written", err)
	}
	s.noteMeta(e, m)
}

// setMeta is saveMeta for what must not be forgotten: a disk that does not take it is an error, and nothing changes.
func (s *Store) setMeta(e *entry, m meta) error {
	if e.snapshot().same(m) {
		return nil
	}
	if err := s.writeMeta(e.digest, m); err != nil {
		s.raise("sidecar not written", err)
		return fmt.Errorf("mark blob %s: %w: %w", e.digest, ErrNotKept, err)
	}
	s.noteMeta(e, m)
	return nil
}

func (s *Store) writeMeta(d oci.Digest, m meta) error {
	if err := s.replace(metaPath(d), m.marshal(), true); err != nil {
		return err
	}
	return s.syncDir(blobDir(d))
}

func (s *Store) noteMeta(e *entry, m meta) {
	mark := s.stampOf(metaPath(e.digest))
	e.mu.Lock()
	e.meta, e.stamp = m, mark
	e.mu.Unlock()
	s.sort(e)
	s.index.putEntry(e)
}

func (s *Store) stampOf(name string) stamp {
	info, err := s.root.Lstat(name)
	if err != nil {
		return stamp{}
	}
	return stamp{ModTime: info.ModTime().UnixNano(), Size: info.Size()}
}
