package trust

import (
	"context"
	"log/slog"
	"time"
)

// keepSealFor is for how long a node keeps what it takes to sign after it was a voter.
const keepSealFor = time.Hour

// staff sees to it that voters can sign, and that others cannot for long.
func (k *keeping) staff(ctx context.Context) {
	t := k.t
	if t.Mode() != Auto || t.Certificate() == nil {
		return
	}
	s, err := t.signer()
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelError, "the farm's authority cannot be used", slog.Any("error", err))
		return
	}
	switch voter := k.p.Farm.IsVoter(t.Node()); {
	case voter && s == nil:
		k.voter = time.Now()
		if err := t.getSeal(ctx, k.p); err != nil {
			t.log.LogAttrs(ctx, slog.LevelDebug, "no voter has given the seal key", slog.Any("error", err))
			return
		}
		k.next = time.Now() // to look with it
	case voter:
		k.voter = time.Now()
	case s != nil && time.Since(k.voter) >= keepSealFor && k.bound:
		if err := t.dropSigner(ctx, k.p); err != nil {
			k.voter = time.Now().Add(-keepSealFor * 9 / 10) // a while later again
			t.log.LogAttrs(ctx, slog.LevelDebug, "the farm's authority was not given back", slog.Any("error", err))
		}
	}
}
