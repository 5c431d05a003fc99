package trust

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// converged tells whether all nodes that are up have the same state, with one gossip key, and no rotation is under way.
func (w *town) converged(except ...string) bool {
	var first *house
	for _, id := range w.ids() {
		h := w.up(id)
		if h == nil || slices.Contains(except, id) {
			continue
		}
		if first == nil {
			first = h
		}
		if keys := h.GossipKeys(); h.State().Epoch != first.State().Epoch || len(keys) != 1 || string(keys[0]) != string(first.GossipKeys()[0]) {
			return false
		}
	}
	b := w.book()
	return b.GetEpoch() == first.State().Epoch && b.GetRotation().GetStep() == 0 && b.GetRotation().GetWanted() == b.GetRotation().GetBegun()
}

func (w *town) book() *trustpb.Book {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := parseRecord(w.ledger[bookKey].Value, checkBook)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func TestARevokedNodeIsShutOutByAllAtOnce(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(3, "a", "b", "c", "d", "bad")
		bad := all[4]
		key := string(bad.GossipKeys()[0])
		var open []net.Conn
		for _, h := range all[:4] {
			p := connect(t, bad.Trust, h.Trust, h.id)
			if p.dialError != nil || p.acceptedError != nil {
				t.Fatalf("connect before = %v, %v", p.dialError, p.acceptedError)
			}
			open = append(open, p.accepted)
		}
		began := time.Now()
		if err := all[3].Revoke(t.Context(), "bad"); err != nil { // d is no voter
			t.Fatalf("Revoke = %v", err)
		}
		took := w.eventually(5*time.Second, "all know", func() bool {
			return !slices.ContainsFunc(all[:4], func(h *house) bool { return !h.Revoked("bad") })
		})
		if took > time.Second {
			t.Errorf("the last member knew after %v; want at once", time.Since(began))
		}
		for i, c := range open {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("the revoked node's connection to %s is open", all[i].id)
			}
		}
		w.eventually(time.Minute, "another gossip key", func() bool { return w.converged("bad") })
		if string(all[0].GossipKeys()[0]) == key {
			t.Error("the gossip key is still the one that the revoked node knows")
		}
		if slices.ContainsFunc(bad.GossipKeys(), func(k []byte) bool { return string(k) == string(all[0].GossipKeys()[0]) }) {
			t.Error("the revoked node knows the new gossip key")
		}
		if p := connect(t, bad.Trust, all[1].Trust, "b"); p.acceptedError == nil {
			t.Error("a revoked node has got a connection")
		}
		if err := bad.renewOnce(t.Context()); err == nil {
			t.Error("a revoked node has renewed its certificate")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := bad.Join(ctx, w.token(all[0], 1), []string{"a", "d"}); !errors.Is(err, ErrRevoked) {
			t.Errorf("Join of a revoked node = %v; want ErrRevoked", err)
		}
	})
}

func TestANodeThatIsReadmittedJoinsAnewAndTheOldKeyStaysOut(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "c")
		stolen := all[1]
		token := w.token(all[0], 1)
		if err := stolen.Join(t.Context(), token, []string{"a"}); err != nil { // its use is the token's last one
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stolen.down()
		if err := all[0].Revoke(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		w.eventually(time.Minute, "rotated", func() bool { return w.converged() })
		time.Sleep(time.Minute)
		if err := all[2].Readmit(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		w.eventually(5*time.Second, "all know", func() bool { return !all[0].Revoked("b") && !all[2].Revoked("b") })
		if p := connect(t, stolen.Trust, all[2].Trust, "c"); p.acceptedError == nil {
			t.Error("the certificate from before the revocation counts again")
		}
		if err := stolen.renewOnce(t.Context()); err == nil {
			t.Error("the certificate from before the revocation was renewed")
		}
		if err := stolen.Join(t.Context(), token, []string{"a"}); !errors.Is(err, ErrTokenUsedUp) {
			t.Errorf("Join with the token of before = %v; want ErrTokenUsedUp", err)
		}
		fresh := open(t, Config{Node: "b"})
		fresh.clerk.dial = w.dial
		if err := fresh.Join(t.Context(), w.token(all[0], 1), []string{"a"}); err != nil {
			t.Errorf("Join with another key = %v", err)
		}
		if p := connect(t, fresh, all[2].Trust, "c"); p.acceptedError != nil {
			t.Errorf("the new certificate: %v", p.acceptedError)
		} else {
			_, _ = p.dialed.(*liveConn).raw.Close(), p.accepted.(*liveConn).raw.Close()
		}
	})
}

func TestTheGossipKeyIsRotatedWithoutAGap(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(3, "a", "b", "c", "d")
		before := string(all[0].GossipKeys()[0])
		if err := all[3].RotateGossipKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		took := w.eventually(time.Minute, "rotated", func() bool {
			w.oneCanReadTheOther(all)
			return w.converged() && string(all[0].GossipKeys()[0]) != before
		})
		if took > 10*time.Second {
			t.Errorf("took %v although all members told that they were so far", took)
		}
	})
}

// oneCanReadTheOther checks that every member knows the key that every other one sends with.
func (w *town) oneCanReadTheOther(all []*house) {
	w.t.Helper()
	for _, from := range all {
		for _, to := range all {
			if !hasAuthority(to.GossipKeys(), from.GossipKeys()[0]) {
				w.t.Errorf("%s does not know the key that %s sends with", to.id, from.id)
			}
		}
	}
}

func TestARotationWaitsForWhoDoesNotTellHowFarItIs(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		w.mu.Lock()
		w.hidden["b"] = true
		w.mu.Unlock()
		before := string(all[0].GossipKeys()[0])
		if err := all[0].RotateGossipKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		took := w.eventually(3*time.Minute, "rotated", func() bool { return w.converged() && string(all[0].GossipKeys()[0]) != before })
		if took < 2*stepPatience || took > 2*stepPatience+10*time.Second {
			t.Errorf("took %v; want two times %v", took, stepPatience)
		}
	})
}

func TestARotationGoesOnWithAnotherVoterInEachStep(t *testing.T) {
	for _, step := range []trustpb.Rotation_Step{trustpb.Rotation_STEP_UNSPECIFIED, trustpb.Rotation_STEP_ADDED, trustpb.Rotation_STEP_FIRST} {
		t.Run(step.String(), func(t *testing.T) {
			inTown(t, Config{}, func(t *testing.T, w *town) {
				all := w.farm(3, "a", "b", "c", "d")
				before := string(all[0].GossipKeys()[0])
				// Whoever writes that step down is dead before anybody hears of it.
				killed := make(chan string, 1)
				w.mu.Lock()
				w.swaps = func(id, key string) error {
					if key == bookKey && id != "d" && w.stepNow() == step && w.wantedNow() && len(killed) == 0 {
						killed <- id
						return errNoQuorum
					}
					return nil
				}
				w.mu.Unlock()
				if err := all[3].RotateGossipKey(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.eventually(5*time.Second, "a voter dies", func() bool { return len(killed) == 1 })
				id := <-killed
				killed <- id
				w.up(id).down()
				w.eventually(3*time.Minute, "rotated", func() bool {
					return w.converged() && string(w.up("d").GossipKeys()[0]) != before
				})
			})
		})
	}
}

func (w *town) stepNow() trustpb.Rotation_Step { return w.book().GetRotation().GetStep() }

func (w *town) wantedNow() bool {
	r := w.book().GetRotation()
	return r.GetStep() != 0 || r.GetWanted() > r.GetBegun()
}

func TestANodeThatWasAwayDuringARotationGetsTheNewKey(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "c")
		all[2].down()
		if err := all[0].RotateGossipKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.eventually(time.Minute, "rotated", func() bool { return w.converged() && w.book().GetEpoch() > 3 })
		w.blind["c"] = true // it cannot read gossip any more
		c := w.open("c")
		c.start()
		w.eventually(time.Minute, "the key", func() bool { return string(c.GossipKeys()[0]) == string(all[0].GossipKeys()[0]) })
		if strings.Contains(w.logged(), "certificate renewed") {
			t.Error("it has renewed its certificate for that")
		}
	})
}

func TestRevocationsOutliveTheLossOfTheCatalog(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "bad")
		time.Sleep(2 * time.Hour)
		w.mu.Lock()
		backup := w.ledger[bookKey]
		w.mu.Unlock()
		if err := all[0].Revoke(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		w.eventually(time.Minute, "rotated", func() bool { return w.converged("bad") })
		for name, left := range map[string]map[string]Entry{"lost": {}, "of before": {bookKey: backup}} {
			w.mu.Lock()
			w.ledger = left
			w.mu.Unlock()
			a := w.up("a").restart()
			w.eventually(5*time.Minute, "restored", func() bool {
				w.mu.Lock()
				_, node := w.ledger[nodesKey+"b"]
				_, book := w.ledger[bookKey]
				w.mu.Unlock()
				return book && shutsOut(w.book(), "bad") && w.converged("bad") && (node || name != "lost")
			})
			if !a.Revoked("bad") {
				t.Errorf("catalog %s: the revocation is forgotten", name)
			}
			time.Sleep(2 * time.Hour)
		}
	})
}

func TestANodeOfASiteIsRevokedByItsID(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		site, key, files := newPKI(t), newGossipKey(), map[string]Files{}
		w.files = func(id string) Files {
			if _, ok := files[id]; !ok {
				files[id] = site.files(t, key)
				site.issue(t, files[id], id)
			}
			return files[id]
		}
		w.setVoters("a")
		for _, id := range []string{"a", "b", "bad"} {
			w.open(id).start()
		}
		time.Sleep(time.Minute)
		if _, err := w.up("a").Tokens(t.Context()); err == nil {
			t.Error("there are tokens in a farm with a PKI of its own")
		}
		if err := w.up("b").RotateGossipKey(t.Context()); err == nil {
			t.Error("a gossip key that comes from a file was rotated")
		}
		if err := w.up("b").Revoke(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		w.eventually(5*time.Second, "all know", func() bool { return w.up("a").Revoked("bad") && w.up("b").Revoked("bad") })
		if p := connect(t, w.up("bad").Trust, w.up("a").Trust, "a"); p.acceptedError == nil {
			t.Error("a revoked node has got a connection")
		}
		w.mu.Lock()
		w.ledger = map[string]Entry{} // lost
		w.mu.Unlock()
		w.eventually(3*time.Hour, "restored", func() bool {
			w.mu.Lock()
			_, ok := w.ledger[bookKey]
			w.mu.Unlock()
			return ok && shutsOut(w.book(), "bad")
		})
		if err := w.up("a").Readmit(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		w.eventually(5*time.Second, "all know", func() bool { return !w.up("a").Revoked("bad") && !w.up("b").Revoked("bad") })
		p := connect(t, w.up("bad").Trust, w.up("a").Trust, "a")
		if p.acceptedError != nil {
			t.Fatalf("a readmitted node with the site's certificate: %v", p.acceptedError)
		}
		_, _ = p.dialed.(*liveConn).raw.Close(), p.accepted.(*liveConn).raw.Close()
	})
}
