package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

var hostedRepo = oci.Repository{Upstream: "farm.internal", Path: "team/app"}

// newFarmTown is a town that hosts, and whose upstream has nothing.
func newFarmTown(t *testing.T) *town {
	w := newTown(t)
	w.parts = func(_ string, p *Parts, c *Config) {
		p.Hosted = func(r oci.Repository) bool { return r.Upstream == hostedRepo.Upstream }
		c.UpstreamFallback = false
	}
	return w
}

// hostedBy is a blob of n bytes that no upstream has and that owner owns by a view.
func (w *town) hostedBy(view *ring.View, owner string, n int, salt string) ([]byte, oci.Digest) {
	w.t.Helper()
	data, d := w.ownedBy(view, owner, n, salt)
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	delete(w.up.blobs, d)
	return data, d
}

func (h *house) getHosted(t *testing.T, d oci.Digest) ([]byte, error) {
	t.Helper()
	return h.getWant(t.Context(), Want{Repository: hostedRepo, Digest: d})
}

func TestAHostedBlobComesFromWhoHasIt(t *testing.T) {
	for _, n := range []int{1000, 5 * mib} {
		for name, holder := range map[string]int{"the owner": 0, "another node": 1} {
			for asker := range 3 {
				t.Run(fmt.Sprintf("%d bytes/%s has it/%d asks", n, name, asker), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newFarmTown(t)
						all := w.houses("a", "b", "c")
						time.Sleep(time.Minute) // settled, and the owner knows of nothing that comes later unsaid
						data, d := w.hostedBy(all[0].directory.View(), "a", n, "hosted")
						if err := all[holder].store.Put(t.Context(), d, data, originOf(hostedRepo)); err != nil {
							t.Fatal(err)
						}
						began := time.Now()
						got, err := all[asker].getHosted(t, d)
						if err != nil || !bytes.Equal(got, data) {
							t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
						}
						if took := time.Since(began); took > time.Second {
							t.Errorf("it took %v; want no waiting", took)
						}
					})
				})
			}
		}
	}
}

func TestAHostedBlobThatNobodyHasIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFarmTown(t)
		all := w.houses("a", "b", "c")
		// The upstream is not to be asked, not even for one that it has.
		_, d := w.ownedBy(all[0].directory.View(), "a", 3*mib, "nowhere")
		for _, h := range all {
			began := time.Now()
			if _, err := h.getHosted(t, d); !errors.Is(err, oci.ErrUnavailable) {
				t.Errorf("get at %s = %v; want unavailable", h.cfg.Self.ID, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v at %s; want seconds", took, h.cfg.Self.ID)
			}
		}
		if _, _, err := all[1].Block(t.Context(), Want{Repository: hostedRepo, Digest: d}, 3*mib, mib); !errors.Is(err, ErrSwarm) {
			t.Errorf("Block = %v; want the swarm named", err)
		}
		if sent := w.up.sent.Load(); sent != 0 {
			t.Errorf("the upstream sent %d bytes of a hosted blob", sent)
		}
		if _, err := all[2].get(t.Context(), d); err != nil {
			t.Errorf("get through a repository of the upstream = %v; want the blob", err)
		}
	})
}

func TestWhoCameThroughAnUpstreamIsNotFailedByAHostedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFarmTown(t)
		all := w.houses("a", "b")
		data, d := w.ownedBy(all[0].directory.View(), "a", 3*mib, "both")
		w.cutOff("b", true) // so that the hosted fetch waits for an answer
		failed := make(chan error, 1)
		go func() {
			_, err := all[0].getHosted(t, d)
			failed <- err
		}()
		time.Sleep(10 * time.Millisecond)
		if got, err := all[0].get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get = %d bytes, %v; want the blob from the upstream", len(got), err)
		}
		<-failed
	})
}

func TestSeveralHoldersOfAHostedBlobShareTheWork(t *testing.T) {
	for name, owner := range map[string]string{"the owner has it": "a", "the owner knows who": "d"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFarmTown(t)
				all := w.houses("a", "b", "c", "d", "e")
				time.Sleep(time.Minute)
				data, d := w.hostedBy(all[0].directory.View(), owner, 64*mib, "shared")
				for _, h := range all[:3] {
					h.keep(t, data)
				}
				time.Sleep(5 * time.Second) // they say so
				if got, err := all[4].getHosted(t, d); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
				}
				for _, h := range all[:3] {
					if sent := h.Stats().SentBytes; sent < 4*mib {
						t.Errorf("%s sent %d bytes of %d; want a share", h.cfg.Self.ID, sent, len(data))
					}
				}
			})
		})
	}
}

func TestAHostedBlobIsPutTogetherFromParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFarmTown(t)
		all := w.houses("a", "b", "c")
		data, d := w.hostedBy(all[0].directory.View(), "a", 8*mib, "parts")
		l := rigList(d, data, "an earlier owner")
		leaveList(t, all[1].store, l, data, 0, 1, 2, 3)
		leaveList(t, all[2].store, l, data, 4, 5, 6, 7)
		if got, err := all[0].getHosted(t, d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get = %d bytes, %v; want the blob", len(got), err)
		}
	})
}
