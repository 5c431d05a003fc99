package trust

import (
	"context"
	"log/slog"
	"time"
)

// sweepEvery is how often a Trust looks after itself.
const sweepEvery = 30 * time.Second

// tend closes connections whose peer's certificate has run out, within a minute, and in mode files reads files again that
// have changed; changed, if not nil, is told the new state then. It returns when ctx is done.
func (t *Trust) tend(ctx context.Context, changed func(State)) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			t.sweep(ctx, now)
			t.lookAtFiles(ctx, changed)
		}
	}
}

// sweep closes the connections whose peer's certificate has run out at now.
func (t *Trust) sweep(ctx context.Context, now time.Time) {
	if n := t.open.closeRunOut(now); n > 0 {
		t.log.LogAttrs(ctx, slog.LevelInfo, "connections closed as the peers' certificates have run out", slog.Int("connections", n))
	}
}

// lookAtFiles reads the files of a site's PKI again if they have changed. While they do not fit together what they said
// before holds: files are seldom replaced all at once.
func (t *Trust) lookAtFiles(ctx context.Context, changed func(State)) {
	if t.cfg.Mode != Own {
		return
	}
	others, err := t.watchSite()
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelWarn, "changed files of the PKI not taken", slog.Any("error", err))
		return
	}
	if others && changed != nil {
		changed(t.State())
	}
}
