package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// wait counts those who wait for the blob.
func (t *task) wait(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiters += n
	t.touched = t.e.now()
}

// release lets a task that was there to serve what is whole fetch as well, now that somebody wants the blob.
func (t *task) release(w Want) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held && !w.held {
		t.held, t.repo, t.claimed = false, w.Repository, w.Size
		if t.e.isHosted(w.Repository) {
			t.vouch()
		}
	}
}

func (t *task) holdsOnly() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

// lendsOnly tells whether the blob is not whole here and nobody here wants it.
func (t *task) lendsOnly() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held && !t.complete()
}

// needed tells whether anybody waits for the blob or takes part in its swarm with this node.
func (t *task) needed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots.empty(t.uploads)
	return t.waiters > 0 || t.guests() > 0 || len(t.pushing) > 0 || t.uploads != nil && t.uploads.Load() > 0
}

// guests is how many nodes have registered with this meeting point. The caller holds mu.
func (t *task) guests() int {
	n := 0
	for _, m := range t.members {
		n += len(m.guests)
	}
	return n
}

// nearlyDone is the share of the blob from which on a fetch is finished although nobody waits.
const nearlyDone = 0.9

// watch ends a fetch that nobody has waited for during Linger, unless it is nearly done.
func (t *task) watch(ctx context.Context, cancel context.CancelFunc) {
	tick := time.NewTicker(t.e.cfg.Linger / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.whole:
			return
		case <-tick.C:
		}
		if t.idleFor() > t.e.cfg.Linger && t.e.retire(t, false) {
			t.mu.Lock()
			t.err = errAbandoned
			t.mu.Unlock()
			cancel()
			return
		}
	}
}

// idleFor is how long nobody has waited for a fetch that is not nearly done.
func (t *task) idleFor() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.e.now()
	if t.waiters > 0 || t.guests() > 0 ||
		t.fetcher != nil && float64(t.fetcher.Count()) >= nearlyDone*float64(t.list.Count()) {
		t.touched = now
	}
	return now - t.touched
}

// serveIdle is how long a node stays in a swarm after the last one that it served.
const serveIdle = 2 * time.Second

// serve commits the blob and keeps the task while others need it.
func (t *task) serve(ctx context.Context) {
	if err := t.commit(); err != nil {
		t.log.Warn("blob not stored", slog.Any("error", err))
		t.mu.Lock()
		partial := t.partial
		t.mu.Unlock()
		var group sync.WaitGroup
		defer group.Wait()
		group.Go(func() { t.refill(ctx, partial) })
	}
	tick := time.NewTicker(serveIdle)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if t.e.retire(t, false) {
			t.cancel()
			return
		}
	}
}

// commit makes the partial blob a whole one.
func (t *task) commit() error {
	t.mu.Lock()
	partial, repo := t.partial, t.repo
	t.mu.Unlock()
	if partial == nil {
		return nil
	}
	if err := partial.Commit(blobstore.Origin{Repository: repo}); err != nil {
		return err
	}
	t.e.holders.stored(t.digest)
	return nil
}

// follow waits for the task of the same digest that was let go before this one, which may have the blob's files open.
func (t *task) follow(ctx context.Context) error {
	if t.before == nil {
		return nil
	}
	select {
	case <-t.before.closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errEnded says that a fetch was ended for a reason that has nothing to do with the blob.
var errEnded = fmt.Errorf("the fetch was ended: %w", oci.ErrUnavailable)

// end says how the task went to everybody who waits for it.
func (t *task) end(err error) {
	t.e.retire(t, true)
	if errors.Is(err, context.Canceled) {
		err = errEnded // by this node, and not by the client who will hear of it
	}
	t.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	cause, partial := t.err, t.partial
	if cause == nil || t.complete() {
		partial = nil
	}
	t.hangUp()
	t.done = true
	t.mu.Unlock()
	if lie, ok := errors.AsType[*falseListError](cause); ok {
		t.log.Error("piece list does not lead to the digest, dropping it", slog.String("issuer", lie.issuer))
	}
	if partial != nil {
		abandon(partial, cause)
	}
	close(t.ended)
}

// abandon ends a partial blob, whose readers hear why. Pieces that do not lead to the digest are not kept.
func abandon(partial *blobstore.Partial, cause error) {
	if _, wrong := errors.AsType[*oci.MismatchError](cause); wrong {
		partial.Drop() // its readers learn from failure why
		return
	}
	partial.Fail(cause)
}

// hangUp ends all streams of the swarm. The caller holds mu.
func (t *task) hangUp() {
	for _, m := range t.members {
		for _, o := range m.outs {
			o.close()
		}
		for _, o := range m.guests {
			o.close()
		}
	}
}

// close gives back what the task holds, and lets the next task of the digest begin.
func (t *task) close() {
	t.files.Lock()
	t.mu.Lock()
	partial, blob := t.partial, t.blob
	t.partial, t.blob = nil, nil
	t.mu.Unlock()
	if partial != nil {
		partial.Close()
	}
	if blob != nil {
		_ = blob.Close()
	}
	t.files.Unlock()
	if t.before != nil {
		<-t.before.closed // it was ended before; who follows waits for this task alone
	}
	t.e.closed(t)
}

// failure is why the task ended; nil while it goes on, or when all went well.
func (t *task) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
