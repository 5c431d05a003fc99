package transfer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// ghost is a member that nobody answers for.
func (w *town) ghost(id string) *house {
	w.cutOff(id, true)
	return &house{Engine: &Engine{cfg: Config{Self: Node{ID: id, Boot: "x", Address: id}}}}
}

func TestWhoAsksLaterWaitsForWhoIsAboutToReadTheUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.build("a", t.TempDir(), true), w.build("b", t.TempDir(), true)
		there := []*house{a, b, w.ghost("x")} // who does not answer: a survey takes all of its time
		a.known.set([]*house{a}, there...)
		b.known.set([]*house{b}, there...) // each is the owner by its own view
		time.Sleep(time.Second)
		data := bytes.Repeat([]byte("rival"), mib)
		d := oci.FromBytes(oci.SHA256, data)
		w.up.blobs[d] = data
		done := make(chan error, 2)
		for i, h := range []*house{b, a} {
			go func() {
				time.Sleep(time.Duration(i) * 500 * time.Millisecond)
				got, err := h.get(t.Context(), d)
				if err == nil && !bytes.Equal(got, data) {
					err = errors.New("other bytes")
				}
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if sent := w.up.sent.Load(); sent != int64(len(data)) {
			t.Errorf("the upstream sent %d bytes of %d; want the blob once", sent, len(data))
		}
	})
}

func TestANodeIsNotSentRoundAndRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		all := w.houses("a", "b", "c")
		a, b, c := all[0], all[1], all[2]
		a.known.set([]*house{b}, all...) // a and b name each other
		b.known.set([]*house{a}, all...)
		_, d := w.ownedBy(c.directory.View(), "a", 3*mib, "round")
		q := &transferpb.RegisterRequest{Node: &transferpb.Node{Id: "c", Address: "c"}, RingHash: c.directory.View().Hash()}
		at := a
		for moves := range maxMoves {
			task, to, err := at.meetingPoint(d, testRepo, q)
			if err != nil {
				t.Fatal(err)
			}
			if task != nil {
				task.wait(-1)
				if moves > 2 {
					t.Errorf("c was served after %d moves; want 2 at most", moves)
				}
				return
			}
			q.Tried = append(slices.Clone(q.Tried), at.cfg.Self.ID)
			at = map[string]*house{"a": a, "b": b}[to]
		}
		t.Error("c was sent round and round")
	})
}

func TestOnlyWhoDidNotAnswerIsRememberedAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a, b := w.build("a", t.TempDir(), true), w.build("b", t.TempDir(), true)
		all := []*house{a, b, w.ghost("x")}
		introduce(all[:2], all)
		out := a.unreachable(t.Context(), []string{"b"}) // which has only been refused
		slices.Sort(out)
		if !slices.Equal(out, []string{"b", "x"}) {
			t.Errorf("unreachable = %v; want b, which was passed over, and x", out)
		}
		if lost := a.lost.ids(); !slices.Equal(lost, []string{"x"}) {
			t.Errorf("lost = %v; want x alone", lost)
		}
	})
}

func TestAConnectionThatASwarmUsesIsKept(t *testing.T) {
	data, _, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task, handles := r.full(t, data, list, "a")
	m := task.members[handles[0]]
	first := m.peer()
	r.forgetStrangers(nil, r.directory.View())
	if !r.peers.known(m.node.Address) {
		t.Error("the connection to a node that has registered was closed")
	}
	task.mu.Lock()
	m.guests = nil
	task.mu.Unlock()
	r.forgetStrangers(nil, r.directory.View())
	if r.peers.known(m.node.Address) {
		t.Error("the connection to a node that has left is kept")
	}
	task.mu.Lock()
	defer task.mu.Unlock()
	if again, err := task.member(m.node); err != nil || again.peer() == first {
		t.Errorf("member = %v; want it with a new connection", err)
	}
}

func TestPeekDoesNotJoinWhatOnlyLends(t *testing.T) {
	_, d, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task := r.idle(t, d)
	if err := task.adopt(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	task.mu.Lock()
	task.held = true
	task.mu.Unlock()
	if h := r.Peek(Want{Repository: testRepo, Digest: d}); h != nil {
		t.Error("Peek joined a task that fetches nothing")
	}
	task.release(Want{Repository: testRepo, Digest: d})
	h := r.Peek(Want{Repository: testRepo, Digest: d})
	if h == nil {
		t.Fatal("Peek did not join a fetch")
	}
	_ = h.Close()
}

func TestABlobThatIsGoneIsFetchedWhenSomebodyWantsItMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d, _ := rigBlob(3 * rigMiB)
		r := newRig(t, nil)
		r.up.blobs[d] = data
		task := r.idle(t, d)
		task.held = true
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		task.wait(+1)
		ended := make(chan error, 1)
		go func() { ended <- task.lend(ctx) }()
		synctest.Wait()
		task.release(Want{Repository: testRepo, Digest: d})
		if err := <-ended; err != nil || !task.isComplete() {
			t.Errorf("lend = %v; want the blob fetched for who came while the task was about to end", err)
		}
	})
}

func TestWhoFindsAHolderAtLastAsksItBeforeTheUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		all := w.houses("a", "b")
		a, b := all[0], all[1]
		data, d := w.ownedBy(a.directory.View(), "b", 3*mib, "at last")
		b.keep(t, data)
		ctx, cancel := context.WithCancel(t.Context())
		task := newTask(a.Engine, Want{Repository: testRepo, Digest: d}, cancel)
		a.mu.Lock()
		a.tasks[d] = task
		a.mu.Unlock()
		a.group.Go(func() { task.drive(ctx) })
		if err := task.alone(ctx); err != nil || !task.isComplete() {
			t.Errorf("alone = %v; want the blob", err)
		}
		if sent := w.up.sent.Load(); sent != 0 {
			t.Errorf("the upstream sent %d bytes of what a node holds", sent)
		}
		cancel()
		task.end(nil)
		task.close()
	})
}
