package blobstore

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// OpenPartial opens the partial blob of l's digest, and begins it when there is none. When it is open already with the
// same list id, l is merged into the open one's list. A partial blob that an earlier run left with another list keeps
// the pieces that l confirms; they are checked against l before they count. The errors are ErrWhole and ErrOtherList; a
// disk that cannot take the blob is none, the blob lives in memory then. The caller closes it.
func (s *Store) OpenPartial(l *piece.List) (*Partial, error) {
	d := l.Digest()
	release, noRoom := s.makeRoomFor(l) // before the lock: what is evicted is locked too
	defer release()
	defer s.lockDigest(d)()
	if p, err := s.retainOpen(d); err != nil || p != nil {
		if err == nil {
			err = p.join(l)
		}
		if err != nil {
			return nil, fmt.Errorf("open partial blob %s: %w", d, err)
		}
		return p, nil
	}
	if _, err := s.entry(d); err == nil {
		return nil, fmt.Errorf("open partial blob %s: %w", d, ErrWhole)
	}
	p := s.newPartial(l)
	if s.takeIdle(d) {
		s.resume(p)
	}
	if noRoom != nil {
		p.toMemory(noRoom)
	} else if p.file == nil {
		s.begin(p)
	}
	s.register(p)
	return p, nil
}

// makeRoomFor evicts what l's blob needs beyond what it has on disk already; one that is open or whole needs nothing.
func (s *Store) makeRoomFor(l *piece.List) (release func(), err error) {
	d := l.Digest()
	s.mu.RLock()
	there := s.entries[d] != nil || s.partials[d] != nil
	need := l.Size()
	if idle := s.idle[d]; idle != nil {
		need -= idle.bytes
	}
	s.mu.RUnlock()
	if there {
		return func() {}, nil
	}
	return s.makeRoom(need, d)
}

// FindPartial opens a partial blob that is open or on disk, with the list that it has; oci.ErrNotFound when there is
// none. Who would issue a new list asks here first: under the list that the pieces came with none of them is fetched
// again. The caller closes it.
func (s *Store) FindPartial(d oci.Digest) (*Partial, error) {
	defer s.lockDigest(d)()
	if p, err := s.retainOpen(d); err != nil || p != nil {
		return p, err
	}
	if s.takeIdle(d) {
		st, err := s.readState(d)
		if err == nil {
			p := s.newPartial(st.list)
			if s.resume(p); p.file != nil {
				s.register(p)
				return p, nil
			}
		}
		_ = s.removePartialFiles(d)
	}
	return nil, fmt.Errorf("partial blob %s: %w", d, oci.ErrNotFound)
}

// retainOpen is the open Partial of d with one more user, or nil.
func (s *Store) retainOpen(d oci.Digest) (*Partial, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	p := s.partials[d]
	if p != nil {
		p.users++
	}
	return p, nil
}

func (s *Store) retain(p *Partial) {
	s.mu.Lock()
	p.users++
	s.mu.Unlock()
}

func (s *Store) takeIdle(d oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.idle[d]
	delete(s.idle, d)
	return ok
}

// register makes p the Partial of its digest.
func (s *Store) register(p *Partial) {
	s.mu.Lock()
	p.users = 1
	s.partials[p.list.Digest()] = p
	s.mu.Unlock()
	if p.stale.Count() > 0 {
		select {
		case s.recheck <- p:
		default: // many at once; their readers check them
		}
	}
}

// join merges l into the list of the open partial blob, or gives up the hold that the caller took.
func (p *Partial) join(l *piece.List) error {
	err := error(nil)
	if l.ID() != p.list.ID() {
		err = ErrOtherList
	} else if states := l.Midstates(1); len(states) > 0 && l != p.list {
		err = p.list.Extend(1, states)
	}
	if err != nil && p.leave() {
		p.shut()
	}
	return err
}

func (s *Store) newPartial(l *piece.List) *Partial {
	n := l.Count()
	return &Partial{
		store: s, list: l, lastUse: time.Now(), meta: meta{Size: l.Size()},
		good: piece.NewBitmap(n), stale: piece.NewBitmap(n), seen: piece.NewBitmap(n),
		readers: make(map[*position]struct{}),
	}
}

// begin makes the sparse file of a new partial blob, or has it live in memory.
func (s *Store) begin(p *Partial) {
	d, size := p.list.Digest(), p.list.Size()
	f, err := s.disk.open(s.root, partialPath(d, dataSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err == nil {
		if err = s.disk.truncate(f, size); err == nil {
			p.file = f
			return
		}
		_ = f.Close()
		_ = s.remove(partialPath(d, dataSuffix))
	}
	p.toMemory(err)
}

// resume takes over what an earlier run left on disk, as far as it fits p's list. Without anything to take over p has
// no file afterwards.
func (s *Store) resume(p *Partial) {
	d := p.list.Digest()
	st, err := s.readState(d)
	if err != nil || !p.adoptState(st) {
		_ = s.removePartialFiles(d)
		return
	}
	f, err := s.disk.open(s.root, partialPath(d, dataSuffix), os.O_RDWR)
	if err == nil {
		if info, statErr := f.Stat(); statErr == nil && info.Size() == p.list.Size() {
			p.file = f
			return
		}
		_ = f.Close()
	}
	p.stale, p.ahead = piece.NewBitmap(p.list.Count()), nil
	_ = s.removePartialFiles(d)
}

// adoptState takes over the pieces of st. All of them are checked again before they count; those whose midstates differ
// between the two lists are not even tried.
func (p *Partial) adoptState(st partialState) bool {
	l := p.list
	if st.list.Size() != l.Size() || st.list.PieceSize() != l.PieceSize() {
		return false
	}
	has := st.has
	mine, theirs := l.Midstates(1), st.list.Midstates(1)
	if both := min(len(mine), len(theirs)); !bytes.Equal(mine[:both], theirs[:both]) {
		agree := agreeing(mine[:both], theirs[:both], l.Digest().New().Size())
		for i := agree; i < l.Count(); i++ {
			has.Clear(i)
		}
	} else if st.list.ID() == l.ID() && len(theirs) > 0 {
		_ = l.Extend(1, theirs)
	}
	p.stale, p.ahead, p.meta, p.dirty = has, st.ahead, p.meta.merged(st.meta), true
	return true
}

// agreeing is how many states of the given size a and b begin with in common.
func agreeing(a, b []byte, size int) int {
	n := 0
	for len(a) >= size && bytes.Equal(a[:size], b[:size]) {
		a, b, n = a[size:], b[size:], n+1
	}
	return n
}

// Close gives up one hold. After the last one the pieces stay on disk for the next OpenPartial or FindPartial.
func (p *Partial) Close() {
	if p.leave() {
		defer p.store.lockDigest(p.list.Digest())()
		p.shut()
	}
}

// leave takes one user away and tells whether it was the last.
func (p *Partial) leave() bool {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.users--
	return p.users <= 0
}

// shut puts a partial blob that has no users any more down and closes it, unless someone has opened it meanwhile. The
// caller has locked the digest.
func (p *Partial) shut() {
	s, d := p.store, p.list.Digest()
	s.mu.Lock()
	if p.users > 0 || p.released {
		s.mu.Unlock()
		return
	}
	p.released = true
	if s.partials[d] == p {
		delete(s.partials, d)
	}
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		p.save()
	}
	p.saving.Lock() // Run may be saving it
	defer p.saving.Unlock()
	p.mu.Lock()
	st, idle := p.state(), !p.gone && p.file != nil
	inMemory := p.window != nil
	p.gone = true
	if inMemory {
		p.window.pieces = nil
	}
	p.mu.Unlock()
	if inMemory {
		s.memoryPartials.Add(-1)
	}
	if p.file != nil {
		_ = p.file.Close()
	}
	switch {
	case !idle || closed:
	case st.has.Count() == 0 && len(st.ahead) == 0 && len(st.meta.Links) == 0:
		s.logError("remove empty partial blob", d, s.removePartialFiles(d))
	default:
		s.setIdle(d, st)
	}
}
