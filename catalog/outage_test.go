package catalog

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestWithoutAQuorumABurstOfRequestsIsAnsweredAtOnce(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(7, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		if err := all[6].push("r", "t", "x"); err != nil {
			t.Fatal(err)
		}
		var voters []*fakeNode
		for _, v := range all[0].catalog.Status().Voters {
			voters = append(voters, n.running(v.Node))
		}
		for _, f := range voters[:3] {
			f.crash()
		}
		lost := time.Now()
		const limit = 2 * time.Second
		var waited atomic.Int64
		var wg sync.WaitGroup
		for time.Since(lost) < 12*time.Second {
			for _, f := range all {
				if n.running(f.id) == nil {
					continue
				}
				wg.Go(func() {
					began := time.Now()
					_, _, err := f.catalog.Tag(t.Context(), "r", "t", false)
					took := time.Since(began)
					if took > 0 && began.Sub(lost) > 4*time.Second {
						waited.Add(1)
					}
					if took > limit || err != nil && !errors.Is(err, ErrNoQuorum) || err == nil && began.Sub(lost) > 3*time.Second {
						t.Errorf("%v after the loss Tag on %s = %v after %v; want %v within %v", began.Sub(lost), f.id, err, took, ErrNoQuorum, limit)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if n := waited.Load(); n > 4*5 { // on each of 4 nodes one at a time
			t.Errorf("%d requests looked for a leader within 8 s; want at most 20", n)
		}
		for _, f := range voters[:3] {
			f.start()
		}
		took := n.until(8*time.Second, "an answer on all nodes", func() bool {
			for _, f := range all {
				if _, ok, err := f.catalog.Tag(t.Context(), "r", "t", false); err != nil || !ok {
					return false
				}
			}
			return true
		})
		t.Logf("an answer everywhere %v after the quorum came back", took)
	})
}
