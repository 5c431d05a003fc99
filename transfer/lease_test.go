package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestTwoOwnersReadABlobOnceByItsLease(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				s := newSplit(t, 1+r.IntN(2), after(time.Duration(r.IntN(40))*time.Millisecond))
				s.up.delay, s.up.pace = time.Duration(r.IntN(200))*time.Millisecond, time.Duration(r.IntN(20))*time.Millisecond
				data, d := s.blob(1+300<<10+r.IntN(8*mib), seed)
				// Within the time of the reading, and a little after it, when the blob is whole at one of them.
				span := s.up.delay + time.Duration(len(data)>>18)*s.up.pace + 2*time.Second
				when := make(map[*house]time.Duration)
				for _, h := range append(s.others, s.a, s.b) {
					when[h] = time.Duration(r.Int64N(int64(span)))
				}
				s.getAll(d, data, when)
				if sent := s.up.sent.Load(); sent != int64(len(data)) {
					t.Errorf("the upstream sent %d bytes of %d; want each once (asked %v)", sent, len(data), when)
				}
				time.Sleep(time.Minute)
				if holder := s.holder(d); holder != "" {
					t.Errorf("%s still has the lease; want it given back", holder)
				}
			})
		})
	}
}

func TestWithoutLeasesTwoOwnersReadABlobTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which shows that nothing else keeps them from it
		s := newSplit(t, 0, nil)
		s.up.pace = 10 * time.Millisecond
		data, d := s.blob(8*mib, 1)
		s.getAll(d, data, map[*house]time.Duration{s.a: 0, s.b: 100 * time.Millisecond})
		if sent := s.up.sent.Load(); sent != 2*int64(len(data)) {
			t.Errorf("the upstream sent %d bytes of %d; want them twice", sent, len(data))
		}
	})
}

func TestWhoJoinedTheLeasesHolderTakesOverWhatIsMissing(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 2))
				s := newSplit(t, 0, after(5*time.Millisecond))
				s.up.pace = 10 * time.Millisecond
				data, d := s.blob(8*mib+r.IntN(mib), seed)
				go func() { _, _ = s.a.get(t.Context(), d) }()
				time.Sleep(50 * time.Millisecond)
				done := make(chan error, 1)
				began := time.Now()
				go func() {
					got, err := s.b.get(t.Context(), d)
					if err == nil && !bytes.Equal(got, data) {
						err = errors.New("other bytes")
					}
					done <- err
				}()
				time.Sleep(100*time.Millisecond + time.Duration(r.IntN(150))*time.Millisecond)
				if got := s.read["b"].Load(); got != 0 {
					t.Fatalf("b read %d bytes of what a reads", got)
				}
				crashed := r.IntN(2) == 0
				s.notary.mu.Lock()
				s.crash["a"] = crashed
				s.notary.mu.Unlock()
				had := s.b.find(d).pieces()
				s.a.stop()
				if err := <-done; err != nil {
					t.Fatalf("get at b = %v after a's end; want the blob", err)
				}
				if missing := int64(len(data) - had*mib); s.read["b"].Load() > missing {
					t.Errorf("b read %d bytes; want no more than the %d that it had not, of %d", s.read["b"].Load(), missing, len(data))
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %v (crashed: %v); want a dead node's lease to hold up nobody", took, crashed)
				}
			})
		})
	}
}

func TestALeaseThatIsNotToBeHadCostsAPullLittle(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"no quorum": func(context.Context) error { return errors.New("no quorum") },
		"none in time": func(ctx context.Context) error {
			return errors.Join(pause(ctx, 200*time.Millisecond), errors.New("no quorum"))
		},
		"no answer":       func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"none ever ended": func(context.Context) error { time.Sleep(10 * time.Second); return errors.New("late") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSplit(t, 0, answer)
				for i := range uint64(3) {
					data, d := s.blob(3*mib, i)
					began := time.Now()
					s.getAll(d, data, map[*house]time.Duration{s.a: 0})
					if took := time.Since(began); took > 250*time.Millisecond {
						t.Errorf("pull %d took %v; want 250ms at most", i, took)
					}
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestALeaseWhoseHolderDoesNotReadHoldsUpNobodyForLong(t *testing.T) {
	for name, holder := range map[string]string{"it lives": "b", "it is no member": "gone"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSplit(t, 0, after(time.Millisecond))
				data, d := s.blob(3*mib, 1)
				s.leases[d] = granted{holder, time.Now().Add(30 * time.Second)}
				began := time.Now()
				s.getAll(d, data, map[*house]time.Duration{s.a: 0})
				if took := time.Since(began); took > 1500*time.Millisecond {
					t.Errorf("it took %v; want little more than %v", took, leaseYield)
				}
			})
		})
	}
}

func TestALeaseIsTakenAgainWhileTheBlobIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplit(t, 0, after(time.Millisecond))
		s.up.pace = 2 * time.Second // 8 s a piece
		data, d := s.blob(40*mib, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		began := time.Now()
		h, err := s.a.Get(Want{Repository: testRepo, Digest: d, Size: int64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		for range 12 {
			time.Sleep(5 * time.Second)
			if holder := s.holder(d); holder != "a" || h.Complete() {
				t.Fatalf("%q has the lease while a reads (complete: %v)", holder, h.Complete())
			}
		}
		if err := h.Done(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseLinger + time.Second)
		if holder := s.holder(d); holder != "" {
			t.Errorf("%s has the lease of a blob that it has read", holder)
		}
		if most := int(time.Since(began)/leaseRenew) + 2; s.asked > most {
			t.Errorf("the lease was asked for %d times; want every %v, %d times", s.asked, leaseRenew, most)
		}
	})
}

func TestNoLeaseForWhatIsSmallHostedOrAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplit(t, 0, after(time.Millisecond))
		small, d := s.blob(100<<10, 1)
		if got, err := s.a.getWant(t.Context(), Want{Repository: testRepo, Digest: d, Size: int64(len(small))}); err != nil || !bytes.Equal(got, small) {
			t.Errorf("get = %d bytes, %v; want the small blob", len(got), err)
		}
		s.a.hosted = func(r oci.Repository) bool { return r == hostedRepo }
		large, hosted := s.blob(2*mib, 2)
		s.b.keep(t, large)
		if got, err := s.a.getHosted(t, hosted); err != nil || !bytes.Equal(got, large) {
			t.Errorf("get = %d bytes, %v; want the hosted blob", len(got), err)
		}
		s.a.known.set([]*house{s.a}, s.a)
		data, d := s.blob(2*mib, 3)
		s.getAll(d, data, map[*house]time.Duration{s.a: 0})
		if s.asked != 0 {
			t.Errorf("a lease was asked for %d times; want none", s.asked)
		}
	})
}

func TestBlocksAreReadOnceByTheLeaseToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplit(t, 1, after(10*time.Millisecond))
		s.up.delay = 30 * time.Millisecond
		data, d := s.blob(16*mib, 1)
		want := Want{Repository: testRepo, Digest: d}
		var group sync.WaitGroup
		for _, h := range append(s.others, s.a, s.b) {
			group.Go(func() {
				for _, off := range []int64{9 * mib, 3 * mib, 15 * mib} {
					got, _, err := h.Block(t.Context(), want, int64(len(data)), off)
					if err != nil || !bytes.Equal(got, data[off:off+mib]) {
						t.Errorf("Block at %d at %s = %d bytes, %v; want it", off, h.cfg.Self.ID, len(got), err)
					}
				}
			})
		}
		group.Wait()
		if sent := s.up.sent.Load(); sent != 3*mib {
			t.Errorf("the upstream sent %d bytes for three blocks of 1 MiB", sent)
		}
		// Who reads the whole blob now joins the node that has the blocks.
		s.getAll(d, data, map[*house]time.Duration{s.a: 0, s.b: 0})
		if sent := s.up.sent.Load(); sent != int64(len(data)) {
			t.Errorf("the upstream sent %d bytes of %d; want each once", sent, len(data))
		}
	})
}

// ready is an upstream that has to be prepared for a while.
type ready struct {
	metered
	took time.Duration
	done chan struct{}
}

func (r ready) Prepare(context.Context, oci.Repository) {
	time.Sleep(r.took)
	close(r.done)
}

func (r ready) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (Body, error) {
	<-r.done
	return r.metered.Blob(ctx, repo, d, off, n)
}

func TestALeaseIsTakenWhileTheUpstreamIsPrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSplit(t, 0, after(100*time.Millisecond))
		s.a.upstream = ready{metered{s.up, s.read["a"]}, 100 * time.Millisecond, make(chan struct{})}
		data, d := s.blob(3*mib, 1)
		began := time.Now()
		s.getAll(d, data, map[*house]time.Duration{s.a: 0})
		if took := time.Since(began); took > 150*time.Millisecond {
			t.Errorf("it took %v; want both at once, 100ms", took)
		}
	})
}
