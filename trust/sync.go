package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// How often this node looks what the farm has agreed on.
const (
	syncEvery     = time.Hour
	signersEvery  = time.Minute // nodes that can sign
	firstSyncWait = time.Second
	lastSyncWait  = time.Minute
	manyMembers   = 64 // from which on nodes do not all ask at once
	spreadOver    = 500 * time.Millisecond
	doorsAtOnce   = 16 // join doors that are tried in one go
)

// Heard takes note of an epoch that another node has told. A state that is newer than this node's is fetched soon.
func (t *Trust) Heard(epoch uint64) {
	c := t.clerk
	for {
		old := c.heard.Load()
		if epoch <= t.view.Load().Epoch || epoch <= old {
			return
		}
		if c.heard.CompareAndSwap(old, epoch) {
			c.wake()
			return
		}
	}
}

// A keeping is the state of the loop that keeps this node up to date.
type keeping struct {
	t *Trust
	p *Parts

	next    time.Time // to look then
	rest    time.Time // no look for the sake of a rumour before
	fail    time.Duration
	fruit   time.Duration // rest after a rumour that was none
	turning rotating
	bound   bool // this node's own key was put into the catalog
	copied  time.Time
}

// keep keeps this node's state that of the farm, until ctx ends.
func (t *Trust) keep(ctx context.Context, p *Parts) error {
	k := &keeping{t: t, p: p}
	for {
		now := time.Now()
		rumour := t.clerk.heard.Load() > t.view.Load().Epoch && !now.Before(k.rest)
		if due := t.clerk.due.Swap(false); due || rumour || !now.Before(k.next) {
			k.look(ctx)
		}
		wait := time.Until(k.next)
		if t.clerk.heard.Load() > t.view.Load().Epoch {
			wait = min(wait, time.Until(k.rest))
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-t.clerk.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look looks once what the farm has agreed on, and says when to look again.
func (k *keeping) look(ctx context.Context) {
	t := k.t
	rumour := t.clerk.heard.Load()
	known := t.State().Epoch
	again, err := k.sync(ctx, rumour)
	switch {
	case err != nil && ctx.Err() == nil:
		k.fail = min(max(2*k.fail, firstSyncWait), lastSyncWait)
		again = k.fail/2 + rand.N(k.fail/2)
		level := slog.LevelDebug
		if k.fail < lastSyncWait && 2*k.fail >= lastSyncWait { // once
			level = slog.LevelWarn
		}
		t.log.LogAttrs(ctx, level, "what the farm has agreed on cannot be read", slog.Any("error", err))
	case err == nil:
		k.fail = 0
	}
	k.next = time.Now().Add(again)
	if rumour > t.State().Epoch { // nobody who should know it does
		k.fruit = min(max(2*k.fruit, firstSyncWait), lastSyncWait)
		k.rest = time.Now().Add(k.fruit)
		if err == nil {
			t.clerk.heard.CompareAndSwap(rumour, 0)
		}
	} else if t.State().Epoch > known {
		k.fruit = 0
	}
}

// sync brings this node up to date, and with it, if it can sign, the catalog.
func (k *keeping) sync(ctx context.Context, rumour uint64) (again time.Duration, err error) {
	t := k.t
	again = syncEvery*9/10 + rand.N(syncEvery/5)
	s, err := t.signer()
	if err == nil && s == nil && len(k.p.Farm.Members()) >= manyMembers {
		err = pauseFor(ctx, rand.N(spreadOver))
	}
	if err != nil {
		return again, err
	}
	if s == nil && t.Mode() == Auto {
		return again, t.fetch(ctx, k.p, rumour)
	}
	book, err := k.keepBook(ctx, s)
	if err != nil || book == nil {
		return again, err
	}
	if s == nil {
		return again, nil
	}
	again = min(again, signersEvery) // a catalog that was founded anew has none of it
	if soon := k.rotate(ctx, s, book); soon > 0 {
		again = soon
	}
	return again, nil
}

// keepBook reads the book, and brings what this node knows into a catalog that lacks it: one that is new, or was lost or
// restored. No book: this node keeps apart.
func (k *keeping) keepBook(ctx context.Context, s *signer) (*trustpb.Book, error) {
	t, known := k.t, k.t.State() // known before the reading: so the catalog must have it
	book, index, err := k.p.readBook(ctx)
	if err != nil {
		return nil, err
	}
	if s != nil && index != 0 && !t.sameFarm(ctx, s, book) {
		return nil, nil
	}
	back := known.Epoch > book.GetEpoch()
	if back {
		if book, err = t.restore(ctx, k.p, s, known); err != nil {
			return nil, fmt.Errorf("put the farm's trust into the catalog: %w", err)
		}
		if s != nil && !t.sameFarm(ctx, s, book) { // another founder was faster
			return nil, nil
		}
		t.log.LogAttrs(ctx, slog.LevelInfo, "the farm's trust was put into the catalog", slog.Uint64("epoch", book.GetEpoch()))
	}
	if index == 0 && book.GetEpoch() == 0 {
		return nil, nil // a site's PKI, and nobody was revoked yet
	}
	if s != nil && (back || !k.bound) {
		if err := k.bindAll(ctx, back); err != nil {
			return nil, err
		}
		k.bound = true
	}
	if err := t.takeBook(ctx, s, book); err != nil {
		return nil, err
	}
	if s == nil {
		return book, nil
	}
	k.copy(ctx)
	return book, nil
}

// copy keeps on disk, about each hour, which key is whose. That it cannot be written is no reason to keep a revoked node's
// gossip key.
func (k *keeping) copy(ctx context.Context) {
	if !k.copied.IsZero() && time.Since(k.copied) < syncEvery/2 {
		return
	}
	if err := k.t.keepCopy(ctx, k.p); err != nil {
		k.t.log.LogAttrs(ctx, slog.LevelWarn, "which key is whose is not kept on disk", slog.Any("error", err))
		return
	}
	k.copied = time.Now()
}

// bindAll puts which key is whose into the catalog: this node's, and all that it knows when the catalog was lost or is one
// of before.
func (k *keeping) bindAll(ctx context.Context, lost bool) error {
	if lost {
		if err := k.t.restoreBindings(ctx, k.p); err != nil {
			return err
		}
	}
	own := k.t.Certificate()
	if own == nil {
		return nil
	}
	err := k.t.confirm(ctx, k.p, k.t.Node(), keyPrintOf(own), own.NotAfter)
	if errors.Is(err, ErrTaken) {
		k.t.log.LogAttrs(ctx, slog.LevelError, "another node has the id of this one", slog.String("peer", k.t.Node()))
		return nil
	}
	return err
}

// fetch gets the state from a voter: by a call, or, where none can be called, at a join door.
func (t *Trust) fetch(ctx context.Context, p *Parts, atLeast uint64) error {
	if t.Certificate() == nil {
		return ErrNotMember
	}
	err := errElsewhere
	for _, peer := range t.others(p.Farm.Voters()) {
		var reply *trustpb.StateReply
		if reply, err = t.askState(ctx, p, peer, atLeast); err != nil {
			continue
		}
		if err = t.takeState(ctx, reply); err == nil && t.State().Epoch >= atLeast {
			return nil
		}
	}
	if err == nil || p.Addresses == nil || ctx.Err() != nil {
		return err
	}
	return t.knockOnce(ctx, p.doors(), t.lookAtDoor)
}

// doors are a few addresses of join doors, in an order of chance.
func (p *Parts) doors() []string {
	addresses := slices.Clone(p.Addresses())
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	return addresses[:min(len(addresses), doorsAtOnce)]
}
