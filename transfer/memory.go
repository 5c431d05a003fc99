package transfer

import (
	"context"
	"time"

	"github.com/pullonce/pullonce/blobstore"
)

// confine keeps the logic to the pieces that can be taken now. A blob that the disk does not take goes on in memory, in
// a window that follows the readers; what the window has let go and a reader needs again is fetched again. The caller
// holds mu.
func (t *task) confine() {
	if t.partial == nil {
		return
	}
	if inMemory, _ := t.partial.InMemory(); !inMemory {
		return
	}
	from, to := t.partial.Window()
	t.fetcher.SetWindow(from, to)
	for i := from; i < to; i++ {
		if t.fetcher.Has(i) && !t.partial.Has(i) {
			t.fetcher.Drop(i)
		}
	}
}

// changed is closed when the window of a blob in memory may have moved; nil for a blob on disk.
func (t *task) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.partial == nil {
		return nil
	}
	if inMemory, _ := t.partial.InMemory(); !inMemory {
		return nil
	}
	return t.partial.Changed()
}

// refill reads from the upstream what a reader of a blob in memory needs again and no neighbour has, for as long as the
// task lives.
func (t *task) refill(ctx context.Context, partial *blobstore.Partial) {
	look := time.NewTicker(gapLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		from, to := partial.Window()
		for i := from; i < to; i++ {
			t.mu.Lock()
			lacks := !t.fetcher.Has(i) && !t.fetcher.Held(i) && t.waiters > 0
			t.mu.Unlock()
			if lacks {
				if err := t.readGap(ctx, i, i+1); err != nil {
					partial.Fail(t.explain(ctx, err))
					return
				}
			}
		}
	}
}
