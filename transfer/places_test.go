package transfer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// asking is a blob that waits for its place, or has it.
type asking struct {
	wanted atomic.Bool
	turn   *turn
	leave  func()
	err    error
	in     bool
}

// ask waits for a place beside the test.
func ask(ctx context.Context, p *places, upstream string, wanted bool) *asking {
	a := &asking{}
	a.wanted.Store(wanted)
	go func() {
		a.turn = p.apply(upstream, &a.wanted)
		a.err = p.await(ctx, a.turn)
		a.leave, a.in = func() { p.leave(a.turn) }, a.err == nil
	}()
	synctest.Wait()
	return a
}

func TestWhatAClientWaitsForIsReadBeforeWhatIsFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(16 * bytesEach) // 16 places, 8 of them for what is fetched ahead
		var ahead []*asking
		for range 20 {
			ahead = append(ahead, ask(t.Context(), p, "a", false))
		}
		if !ahead[7].in || ahead[8].in {
			t.Errorf("fetched ahead: the eighth is read %v, the ninth %v; want the places of eight", ahead[7].in, ahead[8].in)
		}
		if client := ask(t.Context(), p, "a", true); !client.in {
			t.Error("a client waits for what is fetched ahead; want a place kept")
		}
		ahead[15].wanted.Store(true) // a client has come for it
		p.look()
		synctest.Wait()
		if !ahead[15].in || ahead[8].in {
			t.Errorf("the one that a client came for is read %v, the one before it %v; want true, false", ahead[15].in, ahead[8].in)
		}
		for i := range ahead {
			ahead[i].leave()
			synctest.Wait()
		}
		if len(p.running) != 1 || len(p.waiting) != 0 {
			t.Errorf("%d are read and %d wait in the end; want the client alone", len(p.running), len(p.waiting))
		}
	})
}

func TestBlobsThatAreReadAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(16 * bytesEach)
		var one, other []*asking
		for range 40 {
			one = append(one, ask(t.Context(), p, "a", true))
		}
		for range 40 {
			other = append(other, ask(t.Context(), p, "b", true))
		}
		if got := len(p.running); got != 16 {
			t.Errorf("%d blobs are read at once; want 16", got)
		}
		if !one[11].in || one[12].in || !other[3].in || other[4].in {
			t.Error("one upstream has all places; want some kept for the other")
		}
		for _, a := range append(one[:12], other...) {
			if a.in {
				a.leave()
			}
			synctest.Wait()
		}
		for _, a := range append(one, other...) {
			synctest.Wait()
			if a.in {
				a.leave()
			}
		}
	})
}

func TestWhoLeavesTheQueueTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(4 * bytesEach) // 4 places, 3 of one upstream
		var in []*asking
		for range 3 {
			in = append(in, ask(t.Context(), p, "a", true))
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone, next := ask(ctx, p, "a", true), ask(t.Context(), p, "a", true)
		cancel()
		synctest.Wait()
		if !errors.Is(gone.err, context.Canceled) {
			t.Errorf("enter of one who leaves = %v; want its own error", gone.err)
		}
		in[0].leave()
		synctest.Wait()
		if !next.in {
			t.Error("a place that is free is not given to the next")
		}
	})
}

func TestUpstreamsThatHangLeaveAPlaceForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(16 * bytesEach)
		for range 40 {
			for _, hanging := range []string{"a", "b"} {
				ask(t.Context(), p, hanging, true)
			}
		}
		next, more := ask(t.Context(), p, "c", true), ask(t.Context(), p, "c", true)
		if !next.in || more.in {
			t.Errorf("beside two upstreams that hang a third is read %v, and twice %v; want true, false", next.in, more.in)
		}
	})
}

func TestABlobThatWaitsForItsReadersTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(4 * bytesEach)
		var in []*asking
		for range 3 {
			in = append(in, ask(t.Context(), p, "a", true))
		}
		next, other := ask(t.Context(), p, "a", true), ask(t.Context(), p, "a", true)
		p.rest(in[0].turn, true)
		synctest.Wait()
		if !next.in || other.in {
			t.Errorf("beside a blob that waits for its readers one is read %v, two %v; want true, false", next.in, other.in)
		}
		p.rest(in[0].turn, false)
		in[1].leave()
		synctest.Wait()
		if other.in {
			t.Error("a blob that is read again does not count")
		}
	})
}
