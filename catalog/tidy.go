package catalog

import (
	"context"
	"fmt"
	"time"
)

const (
	tidyEvery = 2 * time.Second // looks for what is over
	ageEvery  = time.Hour       // looks for old tombstones: there may be many
	leaseOver = time.Minute     // that an ended lease may stay: whoever asks for it takes it anyway
)

// tidy has the state drop what is over by the leader's clock: pins, leases and old tombstones. Commands do that on
// their way; this is one for when none comes. When nothing is over, nothing is written.
func (c *Catalog) tidy(ctx context.Context, s *stewardship) error {
	now := time.Now()
	if now.Sub(s.tidied) < tidyEvery {
		return nil
	}
	s.tidied = now
	v, limit := s.replica.machine.view(), now.Add(-c.cfg.Tombstones)
	due := v.over(now)
	if now.Sub(s.aged) >= ageEvery {
		s.aged = now
		due = due || v.buriedBefore(limit)
	}
	if !due || s.replica.machine.health() != nil {
		return nil
	}
	if _, err := c.Apply(ctx, Command{Do: Forget{Before: limit}}); err != nil {
		return fmt.Errorf("drop what is over: %w", err)
	}
	return nil
}

// over tells whether a pin has ended, or a lease a while ago.
func (v View) over(now time.Time) bool {
	for e := range v.s.expiries.all() {
		if e.at > toNanos(now) {
			break
		}
		if e.pin != "" || e.at <= toNanos(now.Add(-leaseOver)) {
			return true
		}
	}
	return false
}

// buriedBefore tells whether a tombstone is older.
func (v View) buriedBefore(limit time.Time) bool {
	for t := range v.s.tombs.all() {
		if t.time < toNanos(limit) {
			return true
		}
	}
	return false
}
