package blobstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// Commit makes the blob whole, once all pieces are checked: synced, renamed, its directory synced, and only then known.
// Open readers go on. ErrIncomplete: pieces are missing; ErrNotKept: the disk could not take it, which harms no reader.
// A second Commit does nothing. The caller still closes the Partial.
func (p *Partial) Commit(o Origin) error {
	p.settleAll()
	p.gate.Lock()
	defer p.gate.Unlock()
	done, err := p.committable()
	if err != nil || done {
		return p.commitError(err)
	}
	if err := p.store.disk.syncData(p.file); err != nil {
		p.distrust()
		p.toMemory(err)
		return p.commitError(fmt.Errorf("%w: %w", ErrNotKept, err))
	}
	defer p.store.lockDigest(p.list.Digest())()
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	m := p.meta.withOrigin(o)
	p.mu.Unlock()
	if err := p.install(m); err != nil {
		p.store.raise("blob not committed", err)
		return p.commitError(fmt.Errorf("%w: %w", ErrNotKept, err))
	}
	return nil
}

func (p *Partial) commitError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("commit blob %s: %w", p.list.Digest(), err)
}

// committable tells whether p is whole already, and if not, what stands against committing it.
func (p *Partial) committable() (done bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.whole:
		return true, nil
	case p.err != nil:
		return false, p.err
	case p.gone:
		return false, ErrClosed
	case p.window != nil:
		if p.seen.Full() {
			return false, fmt.Errorf("%w: %w", ErrNotKept, p.window.cause)
		}
		return false, ErrIncomplete
	case !p.good.Full():
		return false, ErrIncomplete
	}
	return false, nil
}

// install moves p's bytes to their place as a whole blob. The sidecar goes first: a blob is never seen without its
// links, and a sidecar without a blob is cleaned at the next start. The state with the complete list stays beside until
// the index has the list, so that a kill does not cost hashing the blob again.
func (p *Partial) install(m meta) error {
	s, d := p.store, p.list.Digest()
	if err := p.file.Chmod(0o444); err != nil {
		return err
	}
	st := partialState{list: p.list, has: p.good.Clone(), meta: m}
	if err := s.replace(partialPath(d, infoSuffix), st.marshal(), false); err != nil {
		return err
	}
	e, err := s.place(d, partialPath(d, dataSuffix), m)
	if err != nil {
		return err
	}
	s.verified(e, p.list)
	s.index.putList(p.list)
	s.index.adoptable(d)
	p.mu.Lock()
	p.whole, p.gone, p.dirty, p.ahead = true, true, false, nil
	p.wake()
	p.mu.Unlock()
	// Known as whole before it is unknown as partial: one of the two is found at any time.
	s.adopt(e)
	s.mu.Lock()
	if s.partials[d] == p {
		delete(s.partials, d)
	}
	s.mu.Unlock()
	s.count.committed.Add(1)
	return nil
}

// place renames the synced file at from to be the whole blob d, with its sidecar before it. The caller has locked the
// digest.
func (s *Store) place(d oci.Digest, from string, m meta) (*entry, error) {
	if err := s.makeDirs(blobDir(d)); err != nil {
		return nil, err
	}
	if err := s.replace(metaPath(d), m.marshal(), true); err != nil {
		return nil, err
	}
	if err := s.disk.rename(s.root, from, blobPath(d)); err != nil {
		_ = s.remove(metaPath(d))
		return nil, err
	}
	if err := s.syncDir(blobDir(d)); err != nil {
		return nil, errors.Join(err, s.remove(blobPath(d)), s.remove(metaPath(d)))
	}
	e := newEntry(d, m)
	e.stamp = s.stampOf(metaPath(d))
	return e, nil
}

// removeAdoptable removes the states that were left beside whole blobs until the index had their lists.
func (s *Store) removeAdoptable(digests []oci.Digest) {
	for _, d := range digests {
		s.removeLeftState(d)
	}
}

func (s *Store) removeLeftState(d oci.Digest) {
	defer s.lockDigest(d)()
	s.mu.RLock()
	p, idle := s.partials[d], s.idle[d]
	s.mu.RUnlock()
	if p == nil && idle == nil {
		s.logError("remove state of a whole blob", d, s.remove(partialPath(d, infoSuffix)))
	}
}

// Fail ends the blob with err: its readers get it, before the last piece, and no piece can be written any more. The
// pieces stay on disk, and OpenPartial can go on with them at once. The callers still close it.
func (p *Partial) Fail(err error) {
	if err == nil {
		err = ErrClosed
	}
	p.gate.Lock()
	defer p.gate.Unlock()
	defer p.store.lockDigest(p.list.Digest())()
	p.save()
	if st, ended := p.end(err); ended && p.file != nil {
		p.store.setIdle(p.list.Digest(), st)
	}
}

// Drop ends the blob and removes it from the disk: its chain did not close, or nobody wants it. Readers get
// ErrDropped, unless Fail gave them an error before. The callers still close it.
func (p *Partial) Drop() {
	p.gate.Lock()
	defer p.gate.Unlock()
	d := p.list.Digest()
	defer p.store.lockDigest(d)()
	p.saving.Lock()
	defer p.saving.Unlock()
	_, ended := p.end(ErrDropped)
	switch {
	case ended && p.file != nil:
		p.store.logError("drop partial blob", d, p.store.removePartialFiles(d))
	case !ended:
		p.dropFailed(d)
	}
}

// dropFailed removes what Fail left on disk, unless another list has taken over there.
func (p *Partial) dropFailed(d oci.Digest) {
	p.store.mu.RLock()
	reopened := p.store.partials[d] != nil
	p.store.mu.RUnlock()
	if st, err := p.store.readState(d); err != nil || reopened || st.list.ID() != p.list.ID() {
		return
	}
	p.store.logError("drop partial blob", d, p.store.removeIdle(d))
}

// end takes p from its digest and wakes its readers with err. It tells whether p was still growing.
func (p *Partial) end(err error) (partialState, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole || p.err != nil {
		return partialState{}, false
	}
	st := p.state()
	p.err, p.gone, p.lastUse = err, true, time.Now()
	p.wake()
	s, d := p.store, p.list.Digest()
	s.mu.Lock()
	if s.partials[d] == p {
		delete(s.partials, d)
	}
	s.mu.Unlock()
	return st, true
}
