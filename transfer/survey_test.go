package transfer

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

const mib = 1 << 20

// leavePart puts the pieces with these numbers of a blob into a store, as a fetch that was given up does.
func leavePart(t *testing.T, s *blobstore.Store, data []byte, pieces ...int) {
	t.Helper()
	leaveList(t, s, rigList(oci.FromBytes(oci.SHA256, data), data, "an earlier owner"), data, pieces...)
}

// leaveList is leavePart with a list that others may go by, too.
func leaveList(t *testing.T, s *blobstore.Store, l *piece.List, data []byte, pieces ...int) {
	t.Helper()
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, i := range pieces {
		off, n := l.Bounds(i)
		if err := p.WritePiece(i, data[off:off+n]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatAnEarlierRunHasLeftAnywhereIsNotFetchedAgain(t *testing.T) {
	for name, asks := range map[string]int{"asked for by a third node": 2, "asked for by that node": 1, "asked for by the owner": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				h := w.houses("a", "b", "c")
				a, b := h[0], h[1]
				data, d := w.ownedBy(a.directory.View(), "a", 8*mib, "left")
				leavePart(t, b.store, data, 0, 2, 3, 6)
				time.Sleep(time.Second)
				if !a.holders.settled() {
					t.Fatal("the farm is not settled")
				}
				got, err := h[asks].get(t.Context(), d)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
				}
				if sent := w.up.sent.Load(); sent != 4*mib {
					t.Errorf("the upstream sent %d bytes; want the 4 pieces that no node had", sent)
				}
			})
		})
	}
}

func TestAPartThatNobodyAnnouncedIsHeardOfFromTheNodeThatAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b", "c")
		a, b := h[0], h[1]
		time.Sleep(time.Second)
		data, d := w.ownedBy(a.directory.View(), "a", 8*mib, "unsaid")
		leavePart(t, b.store, data, 1, 4)
		got, err := b.get(t.Context(), d)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("get = %d bytes, %v; want the blob", len(got), err)
		}
		if sent := w.up.sent.Load(); sent != 6*mib {
			t.Errorf("the upstream sent %d bytes; want the 6 pieces that no node had", sent)
		}
	})
}

func TestANodeThatOnlyLendsFetchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		h := w.houses("a", "b")
		a, b := h[0], h[1]
		data, d := w.ownedBy(a.directory.View(), "a", 8*mib, "lent")
		leavePart(t, b.store, data, 0, 1)
		time.Sleep(time.Second)
		if _, err := a.get(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := b.store.Stat(d); err == nil {
			t.Error("the node that lent two pieces has fetched the rest")
		}
		if b.find(d) != nil {
			t.Error("the node still lends a minute later")
		}
		if h := b.partHolding(d); h == nil {
			t.Error("the node no longer has what it lent")
		}
		if sent := w.up.sent.Load(); sent != 6*mib {
			t.Errorf("the upstream sent %d bytes; want 6 pieces", sent)
		}
		if got, err := b.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get at the node that lent = %d bytes, %v; want the blob", len(got), err)
		}
	})
}

func TestBytesAheadOfOrderAreNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		b := w.houses("b")[0]
		data, d := w.ownedBy(b.directory.View(), "b", 4*mib, "ahead")
		p, err := b.store.OpenPartial(piece.Issue(d, 4*mib, mib, "b"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WriteAhead(2*mib, data[2*mib:3*mib]); err != nil {
			t.Fatal(err)
		}
		if h := b.partHolding(d); h != nil {
			t.Errorf("holding of unchecked bytes = %v; want none", h)
		}
		p.Close()
		if h := b.partHolding(d); h != nil {
			t.Errorf("holding of unchecked bytes on disk = %v; want none", h)
		}
	})
}
