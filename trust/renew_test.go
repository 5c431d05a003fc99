package trust

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestCertificatesAreRenewedAtTwoThirdsAndConnectionsStay(t *testing.T) {
	inTown(t, Config{Lifetime: 6 * time.Hour, Back: time.Hour}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		b := all[1]
		before := b.Certificate()
		p := connect(t, b.Trust, all[0].Trust, "a")
		if p.dialError != nil {
			t.Fatal(p.dialError)
		}
		time.Sleep(4*time.Hour - time.Minute - 10*time.Second)
		if b.Certificate().SerialNumber.Cmp(before.SerialNumber) != 0 {
			t.Error("renewed before two thirds")
		}
		took := w.eventually(time.Hour, "renewed", func() bool {
			return b.Certificate().NotAfter.After(before.NotAfter) && all[0].Certificate().NotAfter.After(before.NotAfter)
		})
		if keyPrintOf(b.Certificate()) != keyPrintOf(before) {
			t.Error("the key is another")
		}
		go func() { _, _ = p.dialed.Write([]byte("x")) }()
		if _, err := io.ReadFull(p.accepted, make([]byte, 1)); err != nil {
			t.Errorf("the connection from before, %v later: %v", took, err)
		}
		_, _ = p.dialed.(*liveConn).raw.Close(), p.accepted.(*liveConn).raw.Close()
	})
}

func TestAFarmThatWasOffComesBackByItself(t *testing.T) {
	for _, off := range []time.Duration{31 * day, 60 * day, 110 * day} {
		t.Run(off.String(), func(t *testing.T) {
			inTown(t, Config{}, func(t *testing.T, w *town) {
				w.farm(3, "a", "b", "c", "d", "bad")
				if err := w.up("d").Revoke(t.Context(), "bad"); err != nil {
					t.Fatal(err)
				}
				w.eventually(time.Minute, "rotated", func() bool { return w.converged("bad") })
				began := w.up("a").Certificate().NotAfter
				for _, id := range w.ids() {
					w.up(id).down()
				}
				time.Sleep(off)
				all := []*house{w.open("a"), w.open("b"), w.open("c"), w.open("d"), w.open("bad")}
				for _, h := range all {
					if h.Member() {
						t.Fatalf("%s has a certificate until %v; want one that has run out at %v", h.id, h.Certificate().NotAfter, began)
					}
					h.start()
				}
				took := w.eventually(5*time.Minute, "all are members", func() bool {
					return !slices.ContainsFunc(all[:4], func(h *house) bool { return !h.Member() }) && w.converged("bad")
				})
				if err := (&houseLedger{all[0]}).reach(); err != nil {
					t.Errorf("the catalog has %v", err)
				}
				time.Sleep(time.Hour)
				if all[4].Member() {
					t.Error("the revoked node is a member again")
				}
				t.Logf("back after %v", took)
			})
		})
	}
}

func TestAFarmThatWasOffForTooLongIsToldSo(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		w.farm(3, "a", "b", "c", "d")
		for _, id := range w.ids() {
			w.up(id).down()
		}
		time.Sleep(121 * day)
		a := w.open("a")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := a.Renew(ctx, []string{"b"}); !errors.Is(err, ErrTooOld) {
			t.Errorf("Renew of a voter = %v; want ErrTooOld", err)
		}
		d := w.open("d")
		if err := d.Renew(ctx, []string{"b"}); err == nil || d.Member() {
			t.Errorf("Renew = %v, member %v; want neither", err, d.Member())
		}
	})
}

func TestANodeRenewsBeforeItGossips(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		w.farm(1, "a", "b", "c")
		w.up("c").down()
		time.Sleep(40 * day)
		c := w.open("c")
		if c.Member() || !w.up("a").Member() || !w.up("b").Member() {
			t.Fatal("want c run out, and the others members")
		}
		if err := c.Renew(t.Context(), []string{"nowhere", "b"}); err != nil || !c.Member() {
			t.Errorf("Renew through a node that is no voter = %v, member %v", err, c.Member())
		}
	})
}

func TestWithoutACatalogOnlyRenewalsAreAnswered(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		token := w.token(all[0], 1)
		w.mu.Lock()
		w.cut = true
		w.mu.Unlock()
		before := all[1].Certificate().NotAfter
		time.Sleep(time.Second)
		if err := all[1].renewOnce(t.Context()); err != nil || !all[1].Certificate().NotAfter.After(before) {
			t.Errorf("renewal without a catalog = %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := w.open("c").Join(ctx, token, []string{"a"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join without a catalog = %v; want none before the deadline", err)
		}
	})
}

func TestOnlyVotersGetTheSealKey(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(2, "a", "b", "c")
		w.eventually(time.Minute, "b can sign", func() bool { s, err := all[1].signer(); return s != nil && err == nil })
		sealed := func(h *house) bool {
			_, ok, err := h.sealKey()
			return ok && err == nil
		}
		if sealed(all[2]) {
			t.Error("a node that is no voter has the seal key")
		}
		p, _ := all[2].parts()
		if _, err := all[2].askSeal(t.Context(), p, Peer{ID: "a", Address: "a"}); err == nil {
			t.Error("a node that is no voter was given the seal key")
		}
		info, err := os.Stat(filepath.Join(all[1].dir, "trust", sealFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("seal key file: %v, %v; want 0600", info, err)
		}
		raw, err := os.ReadFile(filepath.Join(all[1].dir, "trust", issuerSeal))
		if err != nil || bytes.Contains(raw, []byte("PRIVATE")) {
			t.Errorf("the authority's key lies open, or %v", err)
		}
		// The others become voters: the first node gives back what it has, and not before they have it.
		w.setVoters("b", "c")
		w.eventually(time.Minute, "c can sign", func() bool { return sealed(all[2]) })
		if !sealed(all[0]) {
			t.Error("the first node has given the seal key back at once")
		}
		w.eventually(2*time.Hour, "a gives back", func() bool { return !sealed(all[0]) })
		if sealedAuthority, _ := all[0].sealedIssuer(); sealedAuthority != nil {
			t.Error("the first node has kept the authority")
		}
		if err := w.open("d").Join(t.Context(), w.token(all[0], 1), []string{"a"}); err != nil {
			t.Errorf("Join by way of the new voters = %v", err)
		}
	})
}

func TestASealKeyIsNotGivenBackBeforeOthersHaveIt(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		w.setVoters("gone")
		time.Sleep(5 * time.Hour)
		if _, ok, err := all[0].sealKey(); !ok || err != nil {
			t.Errorf("the only node that can sign has given it up: %v", err)
		}
	})
}

func TestANodeThatWasFoundedInVainKeepsApart(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		book := w.book()
		other := w.open("other")
		if err := other.Found(); err != nil {
			t.Fatal(err)
		}
		own := other.State()
		other.start()
		w.eventually(time.Minute, "it says so", func() bool { return other.Apart() != "" })
		if err := other.Revoke(t.Context(), "a"); err == nil {
			t.Error("it has revoked a node of the other farm")
		}
		time.Sleep(3 * time.Hour)
		if got := w.book(); got.GetEpoch() != book.GetEpoch() || !bytes.Equal(got.GetAuthorities()[0].GetCertificate(), a.State().CAs[0]) {
			t.Errorf("the catalog was changed: epoch %d; want %d", got.GetEpoch(), book.GetEpoch())
		}
		if got := other.State(); got.Epoch != own.Epoch || !bytes.Equal(got.CAs[0], own.CAs[0]) {
			t.Errorf("it has taken the state of the other farm: %d", got.Epoch)
		}
		if a.Apart() != "" {
			t.Errorf("the farm's own node keeps apart: %s", a.Apart())
		}
	})
}

func TestOfTwoFoundersAtOnceOneKeepsApart(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		w.setVoters("a", "b")
		both := []*house{w.open("a"), w.open("b")}
		for _, h := range both {
			if err := h.Found(); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range both {
			h.start()
		}
		w.eventually(time.Minute, "one keeps apart", func() bool { return (both[0].Apart() == "") != (both[1].Apart() == "") })
		time.Sleep(2 * time.Hour)
		for _, h := range both {
			w.mu.Lock()
			_, bound := w.ledger[nodesKey+h.id]
			w.mu.Unlock()
			if bound != (h.Apart() == "") {
				t.Errorf("%s: apart %q, but bound %v", h.id, h.Apart(), bound)
			}
		}
	})
}

func TestARumourOfAHighEpochIsNotBelieved(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		before := w.reads.Load()
		for range 10_000 {
			all[1].Heard(1 << 60)
			time.Sleep(100 * time.Millisecond)
		}
		if all[1].State().Epoch != all[0].State().Epoch {
			t.Errorf("epoch %d; want %d", all[1].State().Epoch, all[0].State().Epoch)
		}
		if reads := w.reads.Load() - before; reads > 60 {
			t.Errorf("a liar has caused %d reads in 1,000 s; want a few", reads)
		}
	})
}
