package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// gapLook is how often an owner that waits for what others have looks whether it must read it from the upstream.
const gapLook = 250 * time.Millisecond

// readUpstream reads what no live node has, piece by piece in order, until the blob is whole here. lost are the nodes
// that are passed over. Before the first piece it takes the blob's lease.
func (t *task) readUpstream(ctx context.Context, lost []string) (err error) {
	t.setSource(true)
	defer t.setSource(false)
	var lease func(ok bool)
	defer func() {
		if lease != nil {
			lease(err == nil)
		}
	}()
	look := time.NewTicker(gapLook)
	defer look.Stop()
	for {
		if err := t.catchUp(ctx); err != nil {
			return err
		}
		from, to, ok := t.gap()
		if !ok {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-t.whole:
				return nil
			case <-look.C:
			}
			continue
		}
		if t.isHosted() {
			return fmt.Errorf("pieces from %d on of %s: %w", from, t.digest, errNobody)
		}
		if lease == nil {
			if lease, err = t.mayRead(ctx, lost); err != nil {
				return err
			}
			continue // others may have brought something meanwhile
		}
		if err := t.fill(ctx, from, to); err != nil {
			return err
		}
	}
}

// catchUp hashes pieces that are here and lie beyond the midstates that are known, as a node may find them that takes
// over from a lost owner: the chain must reach what comes after them.
func (t *task) catchUp(ctx context.Context) error {
	for {
		t.mu.Lock()
		list := t.list
		behind := list != nil && list.Known() < list.Count() && t.fetcher.Has(list.Known())
		t.mu.Unlock()
		if !behind {
			return nil
		}
		i := list.Known()
		buf, err := t.read(ctx, list, i)
		if err != nil {
			return err
		}
		err = piece.NewHasher(list).Piece(*buf)
		t.e.recycle(buf)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.fetcher.SetKnown(list.Known())
		t.wake()
		t.mu.Unlock()
	}
}

// fill gets the next pieces of a gap: from what was read ahead of order, or up to that from the upstream.
func (t *task) fill(ctx context.Context, from, to int) error {
	if to < 0 {
		return t.readGap(ctx, from, to)
	}
	t.mu.Lock()
	list := t.list
	t.mu.Unlock()
	ahead := t.covered(list, from, to)
	if ahead == from {
		return t.takeCovered(ctx, from)
	}
	return t.readGap(ctx, from, ahead)
}

func (t *task) setSource(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = on
	t.wake()
}

// gap is the next run of pieces that no live node has; to is -1 when the blob's size is not known yet.
func (t *task) gap() (from, to int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		return 0, -1, true
	}
	missing := t.missing()
	n := t.list.Count()
	for from < n && !missing(from) {
		from++
	}
	for to = from; to < n && missing(to); to++ {
	}
	return from, to, from < n
}

// missing tells of each piece whether no live node has it, so that it must be read from the upstream. The caller holds
// mu, for as long as it uses what it gets.
func (t *task) missing() func(i int) bool {
	starving := t.fetcher.Starving(t.e.now())
	known := t.list.Known()
	return func(i int) bool {
		if t.fetcher.Has(i) {
			return false
		}
		if i >= known {
			return true // without its midstates a piece cannot be taken from anybody
		}
		elsewhere := t.fetcher.Held(i) || t.elsewhere != nil && t.elsewhere.Has(i)
		return !elsewhere || starving && !t.fetcher.Held(i)
	}
}

// needs is the end of the run of pieces, from from up to at most to, that must still be read from the upstream: those
// that have arrived meanwhile, that a neighbour has by now, or that were read ahead of order are not asked for again.
func (t *task) needs(list *piece.List, from, to int) int {
	to = t.covered(list, from, to)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list != list {
		return to // the reading is about to end
	}
	missing := t.missing()
	for i := from; i < to; i++ {
		if !missing(i) {
			return i
		}
	}
	return to
}

// maxReopen is how often in a row a gap's reading is begun anew without a piece in between.
const maxReopen = 2

// readGap reads pieces from up to, not including, to. The upstream's own retries have been used up when it fails.
func (t *task) readGap(ctx context.Context, from, to int) error {
	fails := 0
	for {
		at, err := t.readStretch(ctx, from, to)
		if err == nil || ctx.Err() != nil || fails >= maxReopen && at == from || !errors.Is(err, oci.ErrUnavailable) {
			return err
		}
		if _, _, ok := t.gap(); !ok {
			return nil // others have brought the rest
		}
		fails++
		if at > from {
			from, fails = at, 0
			if to < 0 {
				to = t.count()
			}
			if from >= to {
				return nil
			}
		}
		t.log.Info("reading the upstream again", slog.Int("piece", from), slog.Any("error", err))
	}
}

func (t *task) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list.Count()
}

// readStretch reads pieces in order, hashing one while the next ones arrive, and says how far it came.
func (t *task) readStretch(ctx context.Context, from, to int) (at int, err error) {
	place, err := t.queue(ctx)
	if err != nil {
		return from, err
	}
	defer t.e.reads.leave(place)
	defer t.setPlace(nil, false)
	if err := t.takeAhead(ctx); err != nil {
		return from, err
	}
	f, err := t.openFeed(ctx, from, to)
	if f == nil {
		return from, err
	}
	defer f.close()
	var h *piece.Hasher
	for at = from; f.goesOn(at); at++ {
		buf, err := f.next(ctx)
		if err != nil {
			return at, err
		}
		if h == nil || h.Next() != f.list.Known() {
			h = piece.NewHasher(f.list)
		}
		err = t.take(ctx, f.list, h, at, *buf)
		t.e.taken(buf)
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

// queue waits for a place among the blobs that are read from the upstreams.
func (t *task) queue(ctx context.Context) (*turn, error) {
	place := t.e.reads.apply(t.upstream(), &t.wanted)
	if place.waits() {
		t.setPlace(nil, true)
	}
	if err := t.e.reads.await(ctx, place); err != nil {
		t.setPlace(nil, false)
		return nil, err
	}
	t.setPlace(place, false)
	return place, nil
}

func (t *task) setPlace(p *turn, queued bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.place, t.queued = p, queued
}

// takeAhead takes up the blocks of a blob without a list that were read while it waited for its place, and their list.
func (t *task) takeAhead(ctx context.Context) error {
	t.mu.Lock()
	listed := t.list != nil
	t.mu.Unlock()
	if listed {
		return nil
	}
	p, err := t.e.store.FindPartial(t.digest)
	if err != nil {
		return nil // there are none
	}
	defer p.Close()
	return t.adopt(ctx, p.List())
}

// upstream is the name of the one that the blob is read from.
func (t *task) upstream() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.repo.Upstream
}

// openUpstream opens an answer that starts at piece from and has n bytes, or all that follow when n is negative. The
// first answer tells the blob's size, from which this node issues the list.
func (t *task) openUpstream(ctx context.Context, from int, n int64) (Body, error) {
	t.mu.Lock()
	repo, list := t.repo, t.list
	t.mu.Unlock()
	var off int64
	if list != nil {
		off, _ = list.Bounds(from)
	}
	body, err := t.e.upstream.Blob(ctx, repo, t.digest, off, n)
	if err != nil {
		return Body{}, err
	}
	t.mu.Lock()
	t.vouch()
	t.mu.Unlock()
	if list == nil {
		if err = t.issue(ctx, repo, body.Size); err == nil && t.isComplete() {
			err = fmt.Errorf("read %s: %w", t.digest, blobstore.ErrWhole) // by another way meanwhile
		}
	} else if body.Size >= 0 && body.Size != list.Size() {
		err = fmt.Errorf("upstream says %s has %d bytes, the piece list says %d: %w",
			t.digest, body.Size, list.Size(), &oci.MismatchError{Digest: t.digest, Piece: -1})
	}
	if err != nil {
		_ = body.Close()
		return Body{}, err
	}
	return body, nil
}

// issue makes the list of a blob that this node reads first.
func (t *task) issue(ctx context.Context, repo oci.Repository, size int64) error {
	if size < 0 {
		var err error
		if size, err = t.e.upstream.StatBlob(ctx, repo, t.digest); err != nil {
			return fmt.Errorf("size of %s: %w", t.digest, err)
		}
	}
	return t.adopt(ctx, piece.Issue(t.digest, size, piece.SizeFor(size), t.e.cfg.Self.ID))
}

// take hashes a piece that came from the upstream and writes it. A piece whose end is known already is checked
// against its midstates; the one that comes next in the chain extends it.
func (t *task) take(ctx context.Context, list *piece.List, h *piece.Hasher, i int, data []byte) error {
	known := list.Known()
	var err error
	switch {
	case i < known:
		err = list.Check(i, data)
	case i == h.Next():
		err = h.Piece(data)
	default:
		err = fmt.Errorf("piece %d of %s: %d are known: %w", i, t.digest, known, oci.ErrUnavailable)
	}
	if err != nil && i < known && list.Issuer() != t.e.cfg.Self.ID {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.condemn(list) // the upstream may be right and the list, which another node issued, wrong
		return err
	}
	if err != nil {
		return fmt.Errorf("upstream %s: %w", t.repo.Upstream, err)
	}
	if err := t.writeInTurn(ctx, list, i, data); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == list {
		t.fetcher.SetKnown(list.Known())
	}
	return nil
}

// writeInTurn writes a piece from the upstream. While the blob lives in memory it waits until the readers have room
// for it, which in turn lets the upstream wait.
func (t *task) writeInTurn(ctx context.Context, list *piece.List, i int, data []byte) error {
	for {
		err := t.write(list, i, self, false, data)
		if !errors.Is(err, blobstore.ErrWindow) {
			return err
		}
		t.mu.Lock()
		partial, place := t.partial, t.place
		t.mu.Unlock()
		if partial == nil {
			return err
		}
		t.e.reads.rest(place, true)
		err = partial.WaitWindow(ctx, i)
		t.e.reads.rest(place, false)
		if err != nil {
			return err
		}
	}
}
