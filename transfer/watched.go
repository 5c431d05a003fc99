package transfer

import (
	"context"
	"errors"
	"time"
)

// errSilent says that a node which was asked something answers no probe any more.
var errSilent = errors.New("node went silent")

// watched makes a call that may rightly take long, since the node that is asked waits for an upstream, and gives it up
// when that node stops answering probes.
func (e *Engine) watched(ctx context.Context, n Node, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	look := time.NewTicker(e.cfg.Silence)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
			if !e.reachable(ctx, n) {
				cancel(errSilent)
				return errors.Join(errSilent, <-done)
			}
		}
	}
}
