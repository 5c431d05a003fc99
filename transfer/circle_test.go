package transfer

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// apart gives every house a view by which the next one owns a blob, and finds such a blob. The views stay as they are.
func apart(t *testing.T, w *town, data []byte, all ...*house) oci.Digest {
	t.Helper()
	for i, h := range all {
		next := all[(i+1)%len(all)]
		ghosts := []*house{next}
		h.known.set(ghosts, all...) // by this view that node alone is in the ring
	}
	d := oci.FromBytes(oci.SHA256, data)
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	w.up.blobs[d] = data
	return d
}

func TestNodesThatTakeEachOtherForTheOwnerDoNotWaitForEver(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		for _, who := range []string{"all at once", "one after the other", "one alone"} {
			t.Run(fmt.Sprintf("%d nodes, %s", n, who), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTown(t)
					var ids []string
					for i := range n {
						ids = append(ids, fmt.Sprintf("n%d", i))
					}
					all := w.houses(ids...)
					data := bytes.Repeat([]byte("apart"), mib)
					d := apart(t, w, data, all...)
					time.Sleep(2 * settleWithin) // all take themselves for settled
					began := time.Now()
					done := make(chan error, n)
					askers := all
					if who == "one alone" {
						askers = all[n-1:]
					}
					for i, h := range askers {
						go func() {
							if who == "one after the other" {
								time.Sleep(time.Duration(i) * 100 * time.Millisecond)
							}
							got, err := h.get(t.Context(), d)
							if err == nil && !bytes.Equal(got, data) {
								err = fmt.Errorf("%d other bytes", len(got))
							}
							done <- err
						}()
					}
					for range askers {
						if err := <-done; err != nil {
							t.Error(err)
						}
					}
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("it took %v", took)
					}
					if sent := w.up.sent.Load(); sent != int64(len(data)) {
						t.Errorf("the upstream sent %d bytes of %d; want the blob once", sent, len(data))
					}
				})
			})
		}
	}
}

func TestAHolderThatHasNothingIsNotNamedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c", "d")
		a, c := h[0], h[2]
		time.Sleep(time.Second)
		data, d := w.ownedBy(a.directory.View(), "a", 3*mib, "stale")
		a.holders.add(d, "b")
		a.holders.add(d, "d")
		began := time.Now()
		got, err := c.get(t.Context(), d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v; want each stale holder to cost a round trip", took)
		}
		time.Sleep(time.Second)
		for _, id := range []string{"b", "d"} {
			a.holders.mu.Lock()
			s := a.holders.byNode[id]
			_, has := s.has[d]
			a.holders.mu.Unlock()
			if has {
				t.Errorf("a still takes %s for a holder", id)
			}
		}
		if sent := w.up.sent.Load(); sent != 3*mib || a.Stats().UpstreamBytes != 3*mib {
			t.Errorf("the upstream sent %d bytes, %d of them to the owner; want the blob, to the owner", sent, a.Stats().UpstreamBytes)
		}
	})
}

func TestTheNodesThatFetchWhatOneHoldsAreOneSwarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c", "d", "e")
		owner, holder := h[0], h[4]
		data, d := w.ownedBy(owner.directory.View(), "a", 16*mib, "one swarm")
		holder.keep(t, data)
		time.Sleep(2 * time.Second) // the owner has heard of it
		done := make(chan error, 4)
		met := make(chan string, 4)
		for _, one := range h[:4] {
			go func() {
				handle, err := one.Get(Want{Repository: testRepo, Digest: d})
				if err != nil {
					done <- err
					return
				}
				defer func() { _ = handle.Close() }()
				if err = handle.Done(t.Context()); err == nil {
					handle.task.mu.Lock()
					met <- handle.task.at
					handle.task.mu.Unlock()
				}
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			if at := <-met; at != holder.cfg.Self.ID {
				t.Errorf("a node has met the swarm at %q; want the holder, and no chain", at)
			}
		}
		if sent := w.up.sent.Load(); sent != 0 {
			t.Errorf("the upstream sent %d bytes of what a node holds", sent)
		}
	})
}
