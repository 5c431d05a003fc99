package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// partHolding is what an earlier fetch has left of a blob here, for others; nil when that is nothing. What was written
// ahead of order does not count: nobody has checked it.
func (e *Engine) partHolding(d oci.Digest) *transferpb.HoldingsReply_Holding {
	p, err := e.store.FindPartial(d)
	if err != nil {
		return nil
	}
	defer p.Close()
	list, have := p.List(), p.Bitmap()
	if have.Count() == 0 {
		return nil
	}
	return &transferpb.HoldingsReply_Holding{List: wireHeader(list.Header()), Midstates: list.Midstates(1), Have: have.Bytes()}
}

// lend gives other nodes the pieces of a blob that is here in part and that nobody here wants, for as long as they take
// any. When somebody wants it, it is fetched.
func (t *task) lend(ctx context.Context) error {
	t.wait(+1)
	look := time.NewTicker(lonelyLook)
	defer look.Stop()
	for last := time.Now(); t.holdsOnly(); {
		none := t.pieces() == 0
		if t.lends() {
			last = time.Now()
		}
		if none || time.Since(last) > serveIdle {
			t.wait(-1)
			if retired := t.e.retire(t, false); retired && none {
				return fmt.Errorf("%s is not whole here any more: %w", t.digest, oci.ErrUnavailable)
			} else if retired {
				return errAbandoned
			}
			t.wait(+1)
			last = time.Now()
		}
		select {
		case <-ctx.Done():
			t.wait(-1)
			return context.Cause(ctx)
		case <-look.C:
		}
	}
	t.wait(-1)
	return t.obtain(ctx)
}

// pieces is how many pieces are here.
func (t *task) pieces() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher == nil {
		return 0
	}
	return t.fetcher.Count()
}

// lends tells whether another node takes pieces of this one now, or may.
func (t *task) lends() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if len(m.outs) > 0 {
			return true
		}
	}
	return false
}
