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
// a client waits for goes before what is fetched ahead. Neither what is fetched ahead nor some upstreams, which may
// hang, can take all places: for one of which nothing is read some are kept.
type places struct {
	most, ahead, each int // in all, of those that no client waits for, of one upstream
	spare             int // beyond most, for upstreams of which nothing is read

	mu      sync.Mutex
	running []*turn
	waiting []*turn
}

// A turn is one blob that is read, or waits for it.
type turn struct {
	upstream string
	wanted   *atomic.Bool // a client, or a peer, waits for the blob
	ready    chan struct{}
	rests    bool // it waits for the blob's readers, and not for the upstream
}

// newPlaces has as many places as there is memory for.
func newPlaces(budget int64) *places {
	most := max(4, int(budget/bytesEach))
	return &places{most: most, ahead: most / 2, each: most - most/4, spare: most / 2}
}

// apply asks for a place, which is to be awaited, and which leave gives back.
func (p *places) apply(upstream string, wanted *atomic.Bool) *turn {
	t := &turn{upstream: upstream, wanted: wanted, ready: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, t)
	p.mu.Unlock()
	p.look()
	return t
}

// await waits for a place that was applied for. When it fails the place is given back.
func (p *places) await(ctx context.Context, t *turn) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		p.leave(t)
		return context.Cause(ctx)
	}
}

// waits tells whether the place is still to come.
func (t *turn) waits() bool {
	select {
	case <-t.ready:
		return false
	default:
		return true
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

// rest notes that a blob waits for its readers, or no longer: others may be read meanwhile.
func (p *places) rest(t *turn, rests bool) {
	if t == nil {
		return
	}
	p.mu.Lock()
	t.rests = rests
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
	all, same, ahead, resting := 0, 0, 0, 0
	for _, r := range p.running {
		if r.rests && resting < p.most { // more would not fit into memory
			resting++
			continue
		}
		all++
		if r.upstream == t.upstream {
			same++
		}
		if !r.wanted.Load() {
			ahead++
		}
	}
	most := p.most
	if same == 0 {
		most += p.spare
	}
	return all < most && same < p.each && (wanted || ahead < p.ahead)
}
