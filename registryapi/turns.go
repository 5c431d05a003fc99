package registryapi

import (
	"context"
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// turns sees to it that one request at a time goes on with an upload. A new one takes it over from one that waits for
// its client: after a cut that only the client has noticed, it is the client that comes back.
type turns struct {
	mu   sync.Mutex
	held map[turnKey]*turn
}

type turnKey struct {
	repo oci.Repository
	id   string
}

// A turn is a request's time with an upload.
type turn struct {
	body  *body
	ready chan struct{} // closed once the upload is open
	done  chan struct{} // closed when the turn is over

	upload Upload // nil while it is not open; guarded by the mutex of turns
}

// take waits for the turn of a request with body. The error is that of ctx.
func (t *turns) take(ctx context.Context, key turnKey, b *body) (*turn, error) {
	mine := &turn{body: b, ready: make(chan struct{}), done: make(chan struct{})}
	for {
		t.mu.Lock()
		other := t.held[key]
		if other == nil {
			if t.held == nil {
				t.held = make(map[turnKey]*turn)
			}
			t.held[key] = mine
			t.mu.Unlock()
			return mine, nil
		}
		t.mu.Unlock()
		other.body.interrupt()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// opened notes what the holder of a turn has open, until closed is called.
func (t *turns) opened(mine *turn, u Upload) (closed func()) {
	t.mu.Lock()
	mine.upload = u
	t.mu.Unlock()
	close(mine.ready)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		mine.upload = nil
	}
}

// offset is where an upload stands that a request goes on with now. One whose client is silent does not count: it has
// been cut off, most likely, and who asks is that client.
func (t *turns) offset(ctx context.Context, key turnKey) (int64, bool) {
	t.mu.Lock()
	held := t.held[key]
	t.mu.Unlock()
	if held == nil {
		return 0, false
	}
	select {
	case <-held.ready:
	case <-held.done:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if held.upload != nil && !held.body.silent() {
		return held.upload.Offset(), true
	}
	return 0, false
}

func (t *turns) end(key turnKey, mine *turn) {
	t.mu.Lock()
	delete(t.held, key)
	t.mu.Unlock()
	close(mine.done)
}
