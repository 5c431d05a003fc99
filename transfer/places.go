package transfer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// bytesEach is how many bytes of pieces one blob that is read from the upstream keeps in memory, about.
const bytesEach = 4 << 20

// places bound how many blobs are read from the upstreams at once. Who waits is let in in the order of arrival, but what
// a client waits for goes before what is fetched ahead. Neither what is fetched ahead nor one upstream, which may hang,
// can take all places.
type places struct {
	most, ahead, each int // in all, of those that no client waits for, of one upstream

	mu      sync.Mutex
	running []*turn
	waiting []*turn
}

// A turn is one blob that is read, or waits for it.
type turn struct {
	upstream string
	wanted   *atomic.Bool // a client, or a peer, waits for the blob
	ready    chan struct{}
}

// newPlaces has as many places as there is memory for.
func newPlaces(budget int64) *places {
	most := max(4, int(budget/bytesEach))
	return &places{most: most, ahead: most / 2, each: most - most/4}
}

// enter waits for a place. leave gives it back.
func (p *places) enter(ctx context.Context, upstream string, wanted *atomic.Bool) (leave func(), err error) {
	t := &turn{upstream, wanted, make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, t)
	p.mu.Unlock()
	p.look()
	leave = func() { p.leave(t) }
	select {
	case <-t.ready:
		return leave, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

func (p *places) leave(t *turn) {
	is := func(other *turn) bool { return other == t }
	p.mu.Lock()
	p.running = slices.DeleteFunc(p.running, is)
	p.waiting = slices.DeleteFunc(p.waiting, is)
	p.mu.Unlock()
	p.look()
}

// look lets in who may come. It is called whenever a place is free, or a client has come for what waits.
func (p *places) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wanted := range []bool{true, false} {
		p.waiting = slices.DeleteFunc(p.waiting, func(t *turn) bool {
			if t.wanted.Load() != wanted || !p.fits(t, wanted) {
				return false
			}
			p.running = append(p.running, t)
			close(t.ready)
			return true
		})
	}
}

// hurry lets a blob that was fetched ahead go before others from when a client has come for it.
func (e *Engine) hurry(t *task, w Want) {
	if !w.Ahead && !w.held && t.wanted.CompareAndSwap(false, true) {
		e.reads.look()
	}
}

// fits tells whether there is a place for t. The caller holds mu.
func (p *places) fits(t *turn, wanted bool) bool {
	same, ahead := 0, 0
	for _, r := range p.running {
		if r.upstream == t.upstream {
			same++
		}
		if !r.wanted.Load() {
			ahead++
		}
	}
	return len(p.running) < p.most && same < p.each && (wanted || ahead < p.ahead)
}
