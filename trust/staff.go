package trust

import (
	"context"
	"log/slog"
	"time"
)

const (
	staffEvery  = 5 * time.Second        // how often it is looked whether this node is a voter
	staffSoon   = 250 * time.Millisecond // the same while it is young: with a farm's founder its authority would be lost
	youngFor    = 2 * time.Minute
	keepSealFor = time.Hour       // for how long a node keeps what it takes to sign after it was a voter
	dropAgain   = 5 * time.Minute // when that could not be given back
)

// staff sees to it that this node can sign while it is a voter, and not for long when it is not.
func (t *Trust) staff(ctx context.Context, p *Parts) error {
	began := time.Now()
	keepUntil, broken := began.Add(keepSealFor), false
	for {
		s, err := t.signer()
		if err != nil && !broken {
			t.log.LogAttrs(ctx, slog.LevelError, "the farm's authority cannot be used", slog.Any("error", err))
		}
		broken = err != nil
		voter := p.Farm.IsVoter(t.Node())
		if voter {
			keepUntil = time.Now().Add(keepSealFor)
		}
		switch {
		case broken || t.Certificate() == nil:
		case voter && s == nil:
			t.takeOffice(ctx, p)
		case s != nil && !time.Now().Before(keepUntil):
			keepUntil = time.Now().Add(dropAgain)
			t.leaveOffice(ctx, p)
		}
		wait := staffEvery
		if time.Since(began) < youngFor {
			wait = staffSoon
		}
		if err := pauseFor(ctx, wait); err != nil {
			return err
		}
	}
}

func (t *Trust) takeOffice(ctx context.Context, p *Parts) {
	if err := t.getSeal(ctx, p); err != nil {
		t.log.LogAttrs(ctx, slog.LevelDebug, "nobody has given the seal key", slog.Any("error", err))
		return
	}
	t.clerk.look() // with other eyes
}

func (t *Trust) leaveOffice(ctx context.Context, p *Parts) {
	if err := t.dropSigner(ctx, p); err != nil {
		t.log.LogAttrs(ctx, slog.LevelDebug, "the farm's authority was not given back", slog.Any("error", err))
	}
}
