package blobstore

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	evictInterval = 10 * time.Second // between two looks at the marks when no one asks for one
	usesInterval  = time.Minute      // between two batches of last-use times
)

// Run does the store's work in the background until ctx is done: it puts partial blobs and the index down, evicts,
// checks what an earlier run left, and scrubs. It returns when all of that has stopped.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return every(ctx, s.cfg.SyncInterval, nil, s.sync) })
	g.Go(func() error { return every(ctx, evictInterval, s.kick, func() { s.tidy(ctx) }) })
	g.Go(func() error { return every(ctx, usesInterval, nil, s.saveUses) })
	g.Go(func() error { return s.recheckLeft(ctx) })
	if s.cfg.ScrubRate > 0 {
		g.Go(func() error { return s.scrub(ctx) })
	}
	return g.Wait()
}

// every calls work each interval and whenever kick fires.
func every(ctx context.Context, interval time.Duration, kick <-chan struct{}, work func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-kick:
		}
		work()
	}
}

func (s *Store) wakeRun() {
	select {
	case s.kick <- struct{}{}:
	default: // it is awake
	}
}

// sync puts down what changed since the last time.
func (s *Store) sync() {
	s.mu.RLock()
	open := make([]*Partial, 0, len(s.partials))
	for _, p := range s.partials {
		open = append(open, p)
	}
	s.mu.RUnlock()
	for _, p := range open {
		p.save()
	}
	if err := s.index.flush(); err != nil && !errors.Is(err, ErrClosed) { // one that is closed was alarmed about before
		s.raise("index not put down", err)
	}
}

// tidy keeps the store within its budget and looks whether the disk takes bytes again.
func (s *Store) tidy(ctx context.Context) {
	s.expirePartials()
	s.expireUploads()
	s.evict(ctx)
	if s.alarmed() && s.diskWorks() {
		s.lower()
	}
	s.index.flushIfFull()
}

// diskWorks tries what a new blob would need.
func (s *Store) diskWorks() bool {
	if s.excess(1) > 0 {
		return false
	}
	name, err := s.writeTemp(make([]byte, 64<<10))
	if err != nil {
		return false
	}
	return s.remove(name) == nil && s.index.reopen()
}

// recheckLeft checks the pieces that an earlier run left, so that what is offered to others is soon known to be right.
func (s *Store) recheckLeft(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-s.recheck:
			for i := p.nextStale(0); i >= 0 && ctx.Err() == nil; i = p.nextStale(i + 1) {
				p.settleOne(i)
			}
		}
	}
}
