package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLinkIsExactForManyWritersAndAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(10_000_000)
		for _, writers := range []int{1, 2, 5} {
			begin := time.Now()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range 100 {
						_ = l.wait(t.Context(), 100_000)
					}
				})
			}
			wg.Wait()
			want := time.Duration(writers) * time.Second
			if took := time.Since(begin); took != want {
				t.Errorf("%d writers of 10 MB at 10 MB/s took %v; want %v", writers, took, want)
			}
			time.Sleep(time.Hour) // an idle link saves nothing up
		}
	})
}

func TestALateWriterLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(10_000_000)
		begin := time.Now()
		for range 100 {
			_ = l.wait(t.Context(), 100_000) // 10 ms
			time.Sleep(5 * time.Millisecond)
		}
		if took := time.Since(begin); took > time.Second+5*time.Millisecond {
			t.Errorf("10 MB at 10 MB/s, 5 ms late each time, took %v; want 1 s and 5 ms", took)
		}
	})
}

func TestWaitingForTheLinkEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newLink(1).wait(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait = %v; want the deadline", err)
		}
	})
}
