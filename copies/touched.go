package copies

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// touched remembers when blobs were used: pushed, offered, stored or named. A blob is collected under the lock under
// which its use is noted, so that one of the two comes first: who was told that a blob is here finds it here.
type touched struct {
	seed    maphash.Seed
	grace   time.Duration
	started time.Time
	stripes [64]stripe
}

type stripe struct {
	mu    sync.Mutex // held over the store's work on purpose: it orders what is done to one blob
	at    map[oci.Digest]use
	prune int // as many are looked through for old ones
}

type use struct {
	last time.Time
	n    uint64 // grows with each use
}

func newTouched(grace time.Duration) *touched {
	t := &touched{seed: maphash.MakeSeed(), grace: grace, started: time.Now()}
	for i := range t.stripes {
		t.stripes[i] = stripe{at: make(map[oci.Digest]use), prune: 256}
	}
	return t
}

func (t *touched) stripe(d oci.Digest) *stripe {
	return &t.stripes[maphash.String(t.seed, d.String())%uint64(len(t.stripes))]
}

// mark notes that d is used now. It returns after a removal of d that is underway.
func (t *touched) mark(d oci.Digest) {
	_ = t.with(d, func() error { return nil })
}

// with runs do, which nothing is removed beside, and notes that d is used now. Where do fails nobody is told that d is
// here, and nothing is remembered: a peer may ask for as many digests as it likes.
func (t *touched) with(d oci.Digest, do func() error) error {
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err := do(); err != nil {
		return err
	}
	s.at[d] = use{now, s.at[d].n + 1}
	if len(s.at) > s.prune {
		t.forget(s)
	}
	return nil
}

// unused runs remove when d was last used before that time, and this node runs for longer, too. Nobody can note a use
// meanwhile.
func (t *touched) unused(d oci.Digest, before time.Time, remove func() error) error {
	if !t.started.Before(before) {
		return nil
	}
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.at[d]; ok && !u.last.Before(before) {
		return nil
	}
	return remove()
}

// last is when d was used, or when this node started.
func (t *touched) last(d oci.Digest) time.Time {
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.at[d]; ok {
		return u.last
	}
	return t.started
}

// uses tells how often d was used.
func (t *touched) uses(d oci.Digest) uint64 {
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[d].n
}

// unless runs do when d was not used more often than so since.
func (t *touched) unless(d oci.Digest, uses uint64, do func() error) error {
	s := t.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[d].n != uses {
		return nil
	}
	return do()
}

// forget lets go what was used too long ago to matter. A collection that began before the grace of an entry was over
// must still see it, so it is kept for twice as long. The caller holds s.mu.
func (t *touched) forget(s *stripe) {
	keep := max(2*t.grace, time.Hour)
	for d, u := range s.at {
		if time.Since(u.last) > keep {
			delete(s.at, d)
		}
	}
	s.prune = max(256, 2*len(s.at))
}
