package trust

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

func TestANodeJoinsWithATokenThroughAnyMember(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "c")
		d := w.open("d")
		token := w.token(all[2], 1) // made where nobody can sign
		if err := d.Join(t.Context(), token, []string{"nowhere", "c"}); err != nil {
			t.Fatalf("Join through a node that is no voter = %v", err)
		}
		if !d.Member() || d.State().Epoch != all[0].State().Epoch || len(d.GossipKeys()) != 1 {
			t.Errorf("after Join: member %v, state %+v; want the farm's", d.Member(), d.State())
		}
		d.start()
		p := connect(t, d.Trust, all[1].Trust, "b")
		if p.dialError != nil || p.acceptedID != "d" {
			t.Errorf("a connection of the new node: %v, from %q; want one from d", p.dialError, p.acceptedID)
		}
		_, _ = p.dialed.(*liveConn).raw.Close(), p.accepted.(*liveConn).raw.Close()
		list, err := all[1].Tokens(t.Context())
		if err != nil || len(list) != 3 || list[2].Used != 1 {
			t.Errorf("Tokens = %+v, %v; want three that were used once", list, err)
		}
		if strings.Contains(w.logged(), token.Text()) || strings.Contains(w.logged(), token.Text()[20:60]) {
			t.Error("the log shows a token")
		}
	})
}

func TestTokensThatDoNotCount(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		other := newToken(Fingerprint(a.State().CAs[0][:32]))
		other.root = fingerprintOf(a.State().CAs[0])
		wrong := w.token(a, 1)
		wrong.secret[7]++
		old := w.token(a, 1)
		dropped := w.token(a, 1)
		if err := a.DropToken(t.Context(), dropped.ID()); err != nil {
			t.Fatal(err)
		}
		if err := a.DropToken(t.Context(), dropped.ID()); !errors.Is(err, ErrNoToken) {
			t.Errorf("DropToken again = %v; want ErrNoToken", err)
		}
		used := w.token(a, 1)
		if err := w.open("first").Join(t.Context(), used, []string{"a"}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			token Token
			after time.Duration
			want  error
		}{
			{"unknown", other, 0, ErrBadToken},
			{"wrong secret", wrong, 0, ErrBadToken},
			{"dropped", dropped, 0, ErrBadToken},
			{"used by another node", used, 0, ErrTokenUsedUp},
			{"run out", old, time.Hour, ErrTokenExpired},
		} {
			time.Sleep(c.after)
			n := w.open(strings.ReplaceAll(c.name, " ", "-"))
			if err := n.Join(t.Context(), c.token, []string{"a"}); !errors.Is(err, c.want) {
				t.Errorf("Join with a token that is %s = %v; want %v", c.name, err, c.want)
			}
			if n.Member() || n.State().Epoch != 0 {
				t.Errorf("%s: member %v with epoch %d; want nothing", c.name, n.Member(), n.State().Epoch)
			}
		}
		if list, err := a.Tokens(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("Tokens after an hour = %v, %v; want none", list, err)
		}
		for key := range w.ledger {
			if strings.HasPrefix(key, tokensKey) {
				t.Errorf("the catalog still has %s", key)
			}
		}
	})
}

func TestAnAnswerThatWasLostCostsNoUse(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		token := w.token(a, 1)
		b := w.open("b")
		failed := 0
		w.mu.Lock()
		w.swaps = func(_, key string) error { // the use is counted, then the voter dies
			if strings.HasPrefix(key, nodesKey) && failed < 2 {
				failed++
				return errNoQuorum
			}
			return nil
		}
		w.mu.Unlock()
		if err := b.Join(t.Context(), token, []string{"a"}); err != nil {
			t.Fatalf("Join = %v", err)
		}
		if failed != 2 {
			t.Errorf("%d failures; want 2", failed)
		}
		again := w.open("b") // the certificate never arrived
		if err := again.disk.remove(nodeCert); err != nil {
			t.Fatal(err)
		}
		again = w.open("b")
		if err := again.Join(t.Context(), token, []string{"a"}); err != nil {
			t.Errorf("Join again with the same key = %v", err)
		}
		if list, err := a.Tokens(t.Context()); err != nil || len(list) != 1 || list[0].Used != 1 {
			t.Errorf("Tokens = %+v, %v; want one use", list, err)
		}
	})
}

func TestUsesAreCountedOnceEachWhenVotersCompete(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		w.farm(3, "a", "b", "c")
		token := w.token(w.up("a"), 10)
		done := make(chan error)
		for i := range 15 {
			n := w.open(fmt.Sprint("n", i))
			go func() { done <- n.Join(t.Context(), token, []string{string(rune('a' + i%3))}) }()
		}
		joined, usedUp := 0, 0
		for range 15 {
			switch err := <-done; {
			case err == nil:
				joined++
			case errors.Is(err, ErrTokenUsedUp):
				usedUp++
			default:
				t.Errorf("Join = %v", err)
			}
		}
		if joined != 10 || usedUp != 5 {
			t.Errorf("%d joined, %d did not; want 10 and 5", joined, usedUp)
		}
	})
}

func TestAnIDBelongsToOneKey(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a", "b")[0]
		thief := open(t, Config{Node: "b"})
		thief.clerk.dial = w.dial
		if err := thief.Join(t.Context(), w.token(a, 1), []string{"a"}); !errors.Is(err, ErrTaken) {
			t.Errorf("Join with another's id = %v; want ErrTaken", err)
		}
		if list, _ := a.Tokens(t.Context()); len(list) != 2 || list[1].Used != 0 {
			t.Errorf("Tokens = %+v; want the second unused", list)
		}
	})
}

func TestNothingIsSentToWhoDoesNotShowTheAuthority(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		token := w.token(a, 1)
		evil := &town{t: t, houses: map[string]*house{}, ledger: map[string]Entry{}, hidden: map[string]bool{}}
		defer evil.stop()
		middle := evil.farm(1, "a")[0]
		b := w.open("b")
		b.clerk.dial = evil.dial
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := b.Join(ctx, token, []string{"a"})
		if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Reason != string(wrongAuthority) {
			t.Errorf("Join = %v; want that the authority is another", err)
		}
		if strings.Contains(err.Error(), token.Text()) {
			t.Error("the error shows the token")
		}
		w.settle()
		if n := middle.refused.counts[badToken].Load() + middle.refused.counts[badRequest].Load(); n != 0 {
			t.Errorf("the man in the middle has read %d questions", n)
		}
		if got := middle.clerk.failed.Tokens(); got != failedBurst {
			t.Errorf("the man in the middle has %v tries left; want all %d", got, failedBurst)
		}
		b.clerk.dial = func(ctx context.Context, address string) (c net.Conn, err error) {
			if address == "evil" {
				return evil.dial(ctx, "a")
			}
			return w.dial(ctx, address)
		}
		if err := b.Join(t.Context(), token, []string{"evil", "a"}); err != nil {
			t.Errorf("Join past the man in the middle = %v", err)
		}
	})
}

func TestAThousandWrongTokensAreCheap(t *testing.T) {
	inTown(t, Config{HandshakesPerAddress: 256}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		good := w.token(a, 1)
		w.settle()
		before, began := w.reads.Load(), time.Now()
		root := fingerprintOf(a.State().CAs[0])
		const many = 1000
		done := make(chan error)
		guess := w.open("guess")
		csr, err := guess.request()
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			go func() {
				for range many / 20 {
					q := joinQuestion(newToken(root), csr)
					_, _, err := guess.askDoor(t.Context(), "a", q, pinnedTo(guess.Trust, root))
					done <- err
				}
			}()
		}
		told := 0
		for range many {
			switch err := <-done; {
			case errors.Is(err, ErrBadToken):
				told++
			case !errors.Is(err, errBusy):
				t.Fatalf("a wrong token = %v; want ErrBadToken or busy", err)
			}
		}
		took := time.Since(began)
		if most := failedBurst + int(took.Seconds()*failedPerSec) + 1; told > most {
			t.Errorf("%d of %d were told why in %v; want at most %d", told, many, took, most)
		}
		if reads := w.reads.Load() - before; reads > 4+4*int64(took.Seconds()+1) {
			t.Errorf("%d wrong tokens cost %d reads of the catalog in %v", many, reads, took)
		}
		if err := w.open("b").Join(t.Context(), good, []string{"a"}); err != nil {
			t.Errorf("Join with a right token meanwhile = %v", err)
		}
	})
}

func TestWhoIsSilentAtTheJoinDoorKeepsNobodyOut(t *testing.T) {
	inTown(t, Config{HandshakesPerAddress: 256}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		token := w.token(a, 1)
		silent := w.open("silent")
		for range 4 * doorWaiting {
			raw, err := w.dial(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if _, err := silent.dialDoor(t.Context(), raw, token.Fingerprint()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := w.open("b").Join(t.Context(), token, []string{"a"}); err != nil || time.Since(began) > time.Second {
			t.Errorf("Join = %v after %v; want at once", err, time.Since(began))
		}
		d := &a.clerk.door
		d.mu.Lock()
		waiting := len(d.waiting)
		d.mu.Unlock()
		if waiting > doorWaiting {
			t.Errorf("%d connections wait; want at most %d", waiting, doorWaiting)
		}
		time.Sleep(2 * doorPatience)
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.waiting) != 0 {
			t.Errorf("%d connections wait after %v; want none", len(d.waiting), 2*doorPatience)
		}
	})
}

func joinQuestion(token Token, csr []byte) *trustpb.Question {
	return &trustpb.Question{Kind: &trustpb.Question_Join_{Join: &trustpb.Question_Join{Token: token.Text(), Request: csr}}}
}

func pinnedTo(t *Trust, root Fingerprint) func(context.Context, net.Conn) (*doorConn, error) {
	return func(ctx context.Context, raw net.Conn) (*doorConn, error) { return t.dialDoor(ctx, raw, root) }
}
