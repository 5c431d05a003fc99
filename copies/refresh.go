package copies

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// refreshSoon is when a node looks at its notes first: what changed while it was down is not in them.
const refreshSoon = 20 * time.Second

// refreshNotes brings the notes here in line with the catalog, soon after the start and every NotesEvery.
func (k *Keeper) refreshNotes(ctx context.Context) error {
	wait := min(refreshSoon, k.cfg.NotesEvery)
	for {
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = k.cfg.NotesEvery
		if err := k.refreshOnce(ctx); err != nil && ctx.Err() == nil {
			k.log.Debug("notes not compared with the catalog", slog.String("error", err.Error()))
		}
	}
}

// refreshOnce asks the catalog for the notes of all manifests here. A note that says more, or later, stays.
func (k *Keeper) refreshOnce(ctx context.Context) error {
	var manifests []oci.Digest
	k.parts.Store.EachHosted(func(d oci.Digest, _ int64) bool {
		if info, err := k.parts.Store.Stat(d); err == nil && (info.MediaType != "" || k.parts.Store.Note(d) != nil) {
			manifests = append(manifests, d)
		}
		return true
	})
	for some := range slices.Chunk(manifests, namedBatch) {
		notes, err := k.parts.Catalog.Notes(ctx, some)
		if err != nil {
			return err
		}
		for _, d := range some {
			k.refresh(d, notes[d])
		}
	}
	return nil
}

// refresh brings one note in line. The order among changes of one note is kept by the lock of its digest's uses, which
// this is none of.
func (k *Keeper) refresh(d oci.Digest, note []byte) {
	if len(note) == 0 {
		return
	}
	s := k.holds.stripe(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := k.parts.Store.Note(d)
	if len(old) > 0 {
		note = k.parts.Catalog.Merge(old, note)
	}
	if bytes.Equal(old, note) {
		return
	}
	if err := k.parts.Store.SetNote(d, note); err != nil {
		k.log.Warn("note not kept", slog.String("digest", d.String()), slog.String("error", err.Error()))
	}
}
