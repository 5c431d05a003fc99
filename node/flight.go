package node

import (
	"context"
	"sync"
	"time"

	"github.com/pullonce/pullonce/transfer"
)

// flights lets callers who ask the same thing at once share one answer. A caller that gives up leaves; the question
// goes on for the others, and for the cache, until stop ends it.
type flights struct {
	limit   time.Duration // of one question
	running sync.WaitGroup

	mu      sync.Mutex
	byKey   map[string]*flight
	stopped bool
}

// A flight is one question that is being asked.
type flight struct {
	cancel context.CancelFunc
	landed chan struct{} // closed when the fields below hold the answer
	value  any
	err    error
}

// do asks once for all callers with the same key. ask gets a context of its own.
func (f *flights) do(ctx context.Context, key string, ask func(context.Context) (any, error)) (any, error) {
	one, err := f.board(ctx, key, ask)
	if err != nil {
		return nil, err
	}
	select {
	case <-one.landed:
		return one.value, one.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// begin asks for nobody who waits, unless that is being asked.
func (f *flights) begin(ctx context.Context, key string, ask func(context.Context) (any, error)) {
	_, _ = f.board(ctx, key, ask) // a node that stops asks nothing
}

// board joins the flight of a key, or starts it.
func (f *flights) board(ctx context.Context, key string, ask func(context.Context) (any, error)) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil, transfer.ErrStopped
	}
	if one := f.byKey[key]; one != nil {
		return one, nil
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.limit)
	one := &flight{cancel: cancel, landed: make(chan struct{})}
	if f.byKey == nil {
		f.byKey = make(map[string]*flight)
	}
	f.byKey[key] = one
	f.running.Go(func() {
		defer cancel()
		one.value, one.err = ask(own)
		f.mu.Lock()
		delete(f.byKey, key)
		f.mu.Unlock()
		close(one.landed)
	})
	return one, nil
}

// stop ends all questions and returns when none is being asked; later ones are not begun.
func (f *flights) stop() {
	f.mu.Lock()
	f.stopped = true
	for _, one := range f.byKey {
		one.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
}
