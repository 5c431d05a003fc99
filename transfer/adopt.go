package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

// errOtherList says that the blob goes on with another piece list than the one that its reader began with.
var errOtherList = fmt.Errorf("the blob goes on with another piece list: %w", oci.ErrUnavailable)

// adopt makes list the one that this task's pieces belong to, and opens the partial blob for it. A task that has
// another list of the same digest keeps its own if that has been proven, and else starts over with the new one.
func (t *task) adopt(ctx context.Context, list *piece.List) error {
	err := t.takeList(list)
	if !errors.Is(err, blobstore.ErrWhole) {
		return err
	}
	blob, err := t.e.store.Open(t.digest) // it came whole by another way meanwhile
	if err != nil {
		return fmt.Errorf("open %s, which is whole: %w: %w", t.digest, oci.ErrUnavailable, err)
	}
	return t.takeWhole(ctx, blob)
}

// takeList is adopt for a blob that is not whole.
func (t *task) takeList(list *piece.List) error {
	t.files.Lock()
	defer t.files.Unlock()
	if kept, err := t.keeps(list); kept {
		return err
	}
	t.mu.Lock()
	old := t.partial
	t.mu.Unlock()
	if old != nil {
		old.Drop() // two lists of one digest never mix
	}
	partial, err := t.e.store.OpenPartial(list)
	if errors.Is(err, blobstore.ErrOtherList) {
		// A range was read ahead of order meanwhile, with a list of its own: the blob goes on from there.
		partial, err = t.e.store.FindPartial(t.digest)
	}
	if err != nil {
		return fmt.Errorf("open partial blob %s: %w", t.digest, err)
	}
	return t.swap(stock{partial: partial}, partial.List())
}

// keeps tells whether the task stays with the list that it has, into which list is merged if it is the same.
func (t *task) keeps(list *piece.List) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.list == nil:
		return false, nil
	case t.list.ID() == list.ID():
		return true, t.extend(1, list.Midstates(1))
	default:
		return t.complete(), nil
	}
}

// takeWhole makes the task one of a blob that is whole here. The blob is the task's from then on.
func (t *task) takeWhole(ctx context.Context, blob *blobstore.Blob) error {
	list, err := blob.EnsureList(ctx)
	if err != nil {
		_ = blob.Close()
		return err
	}
	t.files.Lock()
	defer t.files.Unlock()
	return t.swap(stock{blob: blob}, list)
}

// takeSmall makes the task one of a small blob that is here whole and not on disk.
func (t *task) takeSmall(data []byte, list *piece.List) error {
	t.files.Lock()
	defer t.files.Unlock()
	return t.swap(stock{small: data}, list)
}

// A stock is what a task has the pieces of a blob in: one of these.
type stock struct {
	partial *blobstore.Partial
	blob    *blobstore.Blob
	small   []byte
}

func (s stock) close() {
	if s.partial != nil {
		s.partial.Close()
	}
	if s.blob != nil {
		_ = s.blob.Close()
	}
}

// swap puts what is new in the place of what the task had. A task that is over, or has the whole blob, does not take
// it. The caller holds files alone.
func (t *task) swap(fresh stock, list *piece.List) error {
	t.mu.Lock()
	over, whole := t.done, t.blob != nil || t.small != nil
	old := stock{partial: t.partial}
	if over || whole {
		old = fresh
	} else {
		if t.list != nil {
			t.forget()
		}
		t.partial, t.blob, t.small = fresh.partial, fresh.blob, fresh.small
		t.begin(list)
	}
	t.mu.Unlock()
	if old.partial != nil && old.partial != fresh.partial {
		old.partial.Drop() // its readers go on with what is new
	}
	old.close()
	if over {
		return errEnded
	}
	return nil
}

// forget drops the list, its pieces and who has them. The caller holds mu.
func (t *task) forget() {
	for r, cancel := range t.cancels {
		cancel()
		delete(t.cancels, r)
	}
	t.hangUp()
	t.members = make(map[swarm.Peer]*member)
	t.register, t.lastDoubts, t.elsewhere = nil, nil, nil
}
