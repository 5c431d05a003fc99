package blobstore

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// scrubPause is how long the scrub rests when every blob is checked.
const scrubPause = 10 * time.Minute

// scrub checks, at a low rate, blobs that were not checked since the start or within the scrub interval. It bounds how
// long rot hides in what nobody reads.
func (s *Store) scrub(ctx context.Context) error {
	for {
		idle := true
		for _, e := range s.snapshot() {
			if s.checked(e) {
				continue
			}
			idle = false
			if err := s.scrubBlob(ctx, e); ctx.Err() != nil {
				return ctx.Err()
			} else if _, rotten := errors.AsType[*oci.MismatchError](err); err != nil && !rotten {
				s.log.Debug("scrub left a blob out", slog.String("digest", e.digest.String()), slog.String("error", err.Error()))
			}
		}
		pause := time.Second
		if idle {
			pause = scrubPause
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// scrubBlob checks one blob, a piece at a time, resting after each as long as the rate asks.
func (s *Store) scrubBlob(ctx context.Context, e *entry) error {
	f, err := s.root.Open(blobPath(e.digest))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	v := s.verification(e)
	for i := range v.list.Count() {
		if v.has(i) {
			continue
		}
		if err := v.ensure(ctx, f, i); err != nil {
			return err
		}
		_, n := v.list.Bounds(i)
		s.count.scrubbed.Add(n)
		if err := sleep(ctx, time.Duration(float64(n)/float64(s.cfg.ScrubRate)*float64(time.Second))); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
