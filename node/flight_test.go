package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/transfer"
)

func TestAQuestionGoesOnForThoseWhoStillWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flights{limit: time.Minute}
		asked := 0
		ask := func(context.Context) (any, error) {
			asked++
			time.Sleep(time.Second)
			return "answer", nil
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var callers sync.WaitGroup
		for _, c := range []struct {
			ctx  context.Context
			want error
		}{{impatient, context.DeadlineExceeded}, {t.Context(), nil}, {t.Context(), nil}} {
			callers.Go(func() {
				if _, err := f.do(c.ctx, "key", ask); !errors.Is(err, c.want) {
					t.Errorf("do = %v; want %v", err, c.want)
				}
			})
		}
		callers.Wait()
		if asked != 1 {
			t.Errorf("asked %d times for three callers; want 1", asked)
		}
		if v, err := f.do(t.Context(), "key", ask); v != "answer" || err != nil || asked != 2 {
			t.Errorf("do after the answer = %v, %v, asked %d times; want it asked anew", v, err, asked)
		}
	})
}

func TestAQuestionHasItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flights{limit: time.Minute}
		start := time.Now()
		_, err := f.do(t.Context(), "key", func(ctx context.Context) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("do = %v after %v; want it to end after a minute", err, time.Since(start))
		}
	})
}

func TestNoQuestionOutlivesTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flights{limit: time.Hour}
		var running atomic.Int64
		for _, key := range []string{"one", "two"} {
			ctx, leave := context.WithCancel(t.Context())
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = f.do(ctx, key, func(ctx context.Context) (any, error) {
					running.Add(1)
					<-ctx.Done()
					time.Sleep(time.Second) // what was begun is ended in order
					running.Add(-1)
					return nil, ctx.Err()
				})
			}()
			synctest.Wait()
			leave()
			<-gone
		}
		if running.Load() != 2 {
			t.Fatalf("%d questions are being asked after their callers have left; want 2", running.Load())
		}
		f.stop()
		if running.Load() != 0 {
			t.Errorf("%d questions are being asked after stop; want none", running.Load())
		}
		if _, err := f.do(t.Context(), "three", nil); !errors.Is(err, transfer.ErrStopped) {
			t.Errorf("do after stop = %v; want %v", err, transfer.ErrStopped)
		}
		f.stop() // may be called twice
	})
}
