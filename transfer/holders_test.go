package transfer

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// entries is how many digests a node remembers holders of.
func (h *holders) entries() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.byDigest)
}

func TestAnOwnerHearsWhatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c")
		a, b := h[0], h[1]
		time.Sleep(time.Second)
		data, d := w.ownedBy(a.directory.View(), "a", 2000, "come")
		b.keep(t, data)
		time.Sleep(announceEvery)
		synctest.Wait()
		if got := a.holders.of(d, nil); got != "b" {
			t.Errorf("holder of a blob that b stored = %q; want b", got)
		}
		if err := b.store.Delete(d); err != nil {
			t.Fatal(err)
		}
		b.Dropped(d)
		time.Sleep(announceEvery)
		synctest.Wait()
		if got := a.holders.of(d, nil); got != "" {
			t.Errorf("holder of a blob that b dropped = %q; want none", got)
		}
	})
}

func TestTheEndOfARoundReplacesWhatWasSaidBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b")
		a := h[0]
		time.Sleep(time.Second)
		hash := a.directory.View().Hash()
		_, gone := w.ownedBy(a.directory.View(), "a", 1000, "gone")
		_, kept := w.ownedBy(a.directory.View(), "a", 1000, "kept")
		_, late := w.ownedBy(a.directory.View(), "a", 1000, "late")
		_, part := w.ownedBy(a.directory.View(), "a", 1000, "part")
		say := func(q *transferpb.AnnounceRequest) {
			t.Helper()
			q.Node, q.Boot, q.RingHash = "b", "boot of b", hash
			if r, err := a.Announce(t.Context(), q); err != nil || r.GetRingHash() != hash {
				t.Fatalf("Announce = %v, %v; want this ring's hash", r, err)
			}
		}
		say(&transferpb.AnnounceRequest{
			First: true, Final: true, Digests: []string{gone.String(), kept.String()}, Fetching: []string{part.String()},
		})
		if a.holders.of(gone, nil) != "b" || !a.holders.onItsWay(part) {
			t.Error("what b said is not known")
		}
		say(&transferpb.AnnounceRequest{First: true, Digests: []string{kept.String()}})
		say(&transferpb.AnnounceRequest{Digests: []string{late.String()}})
		say(&transferpb.AnnounceRequest{Final: true})
		for d, want := range map[oci.Digest]string{gone: "", kept: "b", late: "b"} {
			if got := a.holders.of(d, nil); got != want {
				t.Errorf("holder after the second round = %q; want %q", got, want)
			}
		}
		if a.holders.onItsWay(part) {
			t.Error("a part that the second round left out is still on its way")
		}
	})
}

func TestAMemberThatLeavesIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c")
		a, b, c := h[0], h[1], h[2]
		for i := range 50 {
			data, _ := w.ownedBy(a.directory.View(), "a", 1000, fmt.Sprint("left", i))
			b.keep(t, data)
		}
		time.Sleep(time.Second)
		if got := a.holders.entries(); got != 50 {
			t.Fatalf("a knows of %d blobs; want 50", got)
		}
		b.stop()
		a.known.set([]*house{a, c}, a, c)
		c.known.set([]*house{a, c}, a, c)
		time.Sleep(2 * pruneEvery)
		if got := a.holders.entries(); got != 0 {
			t.Errorf("a remembers %d blobs of a member that has left; want none", got)
		}
	})
}

func TestWhatAnotherOwnsNowIsForgottenOnceTheRingIsCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c")
		a, b, c := h[0], h[1], h[2]
		a.known.set([]*house{a, b}, a, b)
		b.known.set([]*house{a, b}, a, b)
		want := 0
		for i := range 60 {
			data, _ := w.ownedBy(a.directory.View(), "a", 1000, fmt.Sprint("moved", i))
			d := b.keep(t, data)
			if c.directory.View().Owner(d) == "a" {
				want++
			}
		}
		time.Sleep(time.Second)
		if got := a.holders.entries(); got != 60 {
			t.Fatalf("a knows of %d blobs; want 60", got)
		}
		acquaint(a, b, c)
		time.Sleep(slowestRetry + time.Second) // all have announced by the new ring
		_, standIn := w.ownedBy(a.directory.View(), "b", 1000, "stand-in")
		a.holders.add(standIn, "c")
		time.Sleep(time.Second)
		if got := a.holders.of(standIn, nil); got != "c" {
			t.Errorf("holder of what another node owns = %q; want c while the ring may still change", got)
		}
		time.Sleep(settleWithin + 2*pruneEvery)
		if got := a.holders.entries(); got != want {
			t.Errorf("a knows of %d blobs in the new ring; want %d, its own", got, want)
		}
		if got := c.holders.entries(); got == 0 {
			t.Error("c has not heard of what it owns now")
		}
	})
}

func TestARoundThatDidNotCountIsRepeatedWhenTheRingsAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c")
		a, b, c := h[0], h[1], h[2]
		data, d := w.ownedBy(a.directory.View(), "a", 1000, "early")
		for _, x := range h {
			x.known.set([]*house{x}, x) // nobody knows anybody
		}
		b.known.set([]*house{a, b, c}, a, b, c)
		b.keep(t, data)
		time.Sleep(20 * time.Second) // b tells a, who does not know it yet
		a.known.set([]*house{a, b}, a, b, c)
		c.known.set([]*house{a, b, c}, a, b, c)
		time.Sleep(time.Second)
		if a.holders.settled() {
			t.Error("a is settled although b goes by another ring")
		}
		a.known.set([]*house{a, b, c}, a, b, c)
		time.Sleep(slowestRetry + time.Second)
		if got := a.holders.of(d, nil); got != "b" {
			t.Errorf("holder = %q; want b, once the rings agree", got)
		}
		if !a.holders.settled() {
			t.Error("a is not settled although all have announced")
		}
		a.holders.mu.Lock()
		defer a.holders.mu.Unlock()
		if time.Since(a.holders.since) >= settleWithin {
			t.Error("a is settled because time is up, which proves nothing")
		}
	})
}

func TestAMemberThatDoesNotAnswerDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		ids := []string{"a", "b"}
		for i := range 3 * maxTelling / 2 {
			ids = append(ids, fmt.Sprintf("x%02d", i))
		}
		for _, id := range ids[2:] {
			w.cutOff(id, true)
		}
		var all []*house
		for _, id := range ids[:2] {
			all = append(all, w.build(id, t.TempDir(), true))
		}
		for _, id := range ids[2:] {
			all = append(all, &house{Engine: &Engine{cfg: Config{Self: Node{ID: id, Boot: "x", Address: id}}}})
		}
		introduce(all[:2], all)
		a, b := all[0], all[1]
		time.Sleep(5 * time.Second)
		data, d := w.ownedBy(a.directory.View(), "a", 1000, "slow")
		b.keep(t, data)
		time.Sleep(announceEvery)
		synctest.Wait()
		if got := a.holders.of(d, nil); got != "b" {
			t.Errorf("holder = %q; want b, who has members to tell that do not answer", got)
		}
	})
}

// introduce gives some nodes one view of which all are members.
func introduce(some, all []*house) {
	for _, h := range some {
		h.known.set(all, all...)
	}
}
