package transfer

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// crowd takes all places of the upstream of testRepo, until leave.
func crowd(p *places) (leave func()) {
	var wanted atomic.Bool
	wanted.Store(true)
	var taken []*turn
	for range p.each {
		taken = append(taken, p.apply(testRepo.Upstream, &wanted))
	}
	return func() {
		for _, t := range taken {
			p.leave(t)
		}
	}
}

func TestWhatIsReadWhileABlobWaitsForItsPlaceIsNotReadAgain(t *testing.T) {
	for name, begun := range map[string]bool{"begun before": true, "without a list": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size = 16 * mib
				w := newTown(t)
				a := w.houses("a")[0]
				data, d := w.ownedBy(a.directory.View(), "a", size, "queue")
				want := int64(size)
				if begun {
					begin(t, a, data)
					want -= mib
				}
				leave := crowd(a.reads)
				type result struct {
					data []byte
					err  error
				}
				whole := make(chan result, 1)
				go func() {
					got, err := a.get(t.Context(), d)
					whole <- result{got, err}
				}()
				synctest.Wait()
				start := time.Now()
				for _, off := range []int64{2 * mib, 9 * mib} {
					got, err := a.block(t.Context(), Want{Repository: testRepo, Digest: d}, size, off, new(Source))
					if err != nil || !bytes.Equal(got, data[off:off+mib]) {
						t.Fatalf("block at %d while the blob waits for its place = %d bytes, %v", off, len(got), err)
					}
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("two blocks took %v; want them not to wait behind the blob", took)
				}
				leave()
				if r := <-whole; r.err != nil || !bytes.Equal(r.data, data) {
					t.Fatalf("get = %d bytes, %v; want the blob", len(r.data), r.err)
				}
				if sent := w.up.sent.Load(); sent != want {
					t.Errorf("the upstream sent %d bytes; want %d, each block once", sent, want)
				}
			})
		})
	}
}

// begin puts the first piece of a blob into a store, as a reading that was cut off does.
func begin(t *testing.T, h *house, data []byte) {
	t.Helper()
	l := piece.Issue(oci.FromBytes(oci.SHA256, data), int64(len(data)), mib, h.cfg.Self.ID)
	if err := piece.NewHasher(l).Piece(data[:mib]); err != nil {
		t.Fatal(err)
	}
	p, err := h.store.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.WritePiece(0, data[:mib]); err != nil {
		t.Fatal(err)
	}
}

func TestTwoRepositoriesThatShareABlobReadABlockOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 * mib
		w := newTown(t)
		a := w.houses("a")[0]
		_, d := w.ownedBy(a.directory.View(), "a", size, "shared")
		done := make(chan error, 2)
		w.up.delay = time.Second
		for _, path := range []string{"library/one", "library/two"} {
			go func() {
				want := Want{Repository: oci.Repository{Upstream: oci.DockerHub, Path: path}, Digest: d}
				_, err := a.block(t.Context(), want, size, mib, new(Source))
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if sent := w.up.sent.Load(); sent != mib {
			t.Errorf("the upstream sent %d bytes for two repositories; want the block once", sent)
		}
	})
}

func TestABlockDoesNotWaitForWholeBlobsOfANodeThatIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 * mib
		w := newTown(t)
		h := w.houses("a", "b")
		a := h[0]
		data, d := w.ownedBy(a.directory.View(), "a", size, "cut off")
		w.cutOff("b", true)
		a.lose("b")
		for range maxAlone {
			a.alone <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got, err := a.block(ctx, Want{Repository: testRepo, Digest: d}, size, mib, new(Source))
		if err != nil || !bytes.Equal(got, data[mib:2*mib]) {
			t.Errorf("block beside whole blobs = %d bytes, %v; want it at once", len(got), err)
		}
	})
}

func TestASurveyThatNobodyAnsweredIsSoonForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.cutOff("b", true)
		h := w.houses("a", "b")
		a, b := h[0], h[1]
		data, d := w.ownedBy(a.directory.View(), "a", mib, "silent")
		lost := []string{"b"}
		dead, cancel := context.WithCancel(t.Context())
		cancel()
		a.isElsewhere(dead, d, lost)
		if _, ok := a.surveys.recall(d, "b"); ok {
			t.Error("what was asked for one who had given up is remembered")
		}
		if a.isElsewhere(t.Context(), d, lost) {
			t.Fatal("a node that says nothing has the blob")
		}
		if err := b.store.Put(t.Context(), d, data, originOf(testRepo)); err != nil {
			t.Fatal(err)
		}
		w.cutOff("b", false)
		time.Sleep(surveyBriefly + time.Millisecond)
		if !a.isElsewhere(t.Context(), d, lost) {
			t.Error("a node that said nothing counts as one without the blob")
		}
	})
}

func TestPartsThatAreSaidOverAndOverAreKeptOnceAndForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.houses("a", "b")[0]
		time.Sleep(time.Minute)
		_, d := w.ownedBy(a.directory.View(), "a", 100, "part")
		for range 3 {
			a.holders.partOf(d, "b")
		}
		parts := func() (int, int) {
			a.holders.mu.Lock()
			defer a.holders.mu.Unlock()
			return len(a.holders.parts), len(a.holders.node("b").parts)
		}
		if all, ofB := parts(); all != 1 || ofB != 1 {
			t.Errorf("a part that was said three times is kept %d and %d times; want once", all, ofB)
		}
		for i := range 2 * maxAnnounced {
			a.holders.partOf(oci.FromBytes(oci.SHA256, []byte{byte(i), byte(i >> 8)}), "b")
		}
		if all, ofB := parts(); all != maxAnnounced || ofB != maxAnnounced {
			t.Errorf("%d and %d parts are kept; want %d at most", all, ofB, maxAnnounced)
		}
		time.Sleep(partFor + time.Minute)
		a.holders.prune(a.directory.View())
		if all, ofB := parts(); all != 0 || ofB != 0 {
			t.Errorf("%d and %d parts are kept after their time; want none", all, ofB)
		}
	})
}

func TestWhatAnotherNodeFetchesAheadWaitsUntilAClientComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b")
		a, b := h[0], h[1]
		time.Sleep(time.Second)
		data, d := w.ownedBy(a.directory.View(), "a", 4*mib, "ahead")
		var not atomic.Bool
		for range a.reads.ahead {
			defer a.reads.leave(a.reads.apply("another", &not))
		}
		ahead, err := b.Get(Want{Repository: testRepo, Digest: d, Ahead: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ahead.Close() }()
		time.Sleep(5 * time.Second)
		if sent := w.up.sent.Load(); sent != 0 {
			t.Errorf("the upstream sent %d bytes of what is fetched ahead elsewhere; want it to wait", sent)
		}
		start := time.Now()
		if got, err := b.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the client waited for %v; want the owner to hear of it", took)
		}
	})
}
