package transfer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/swarm"
)

// full is a task that has the whole blob in memory, and the handles of peers that have registered with it.
func (r *rig) full(t *testing.T, data []byte, list *piece.List, peers ...string) (*task, []swarm.Peer) {
	t.Helper()
	task := r.idle(t, list.Digest())
	if err := task.takeSmall(data, list); err != nil {
		t.Fatal(err)
	}
	task.mu.Lock()
	defer task.mu.Unlock()
	task.openRegister()
	var handles []swarm.Peer
	for _, id := range peers {
		m, err := task.member(Node{ID: id, Address: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		m.guests = append(m.guests, newOutbox())
		task.register.Join(m.handle, "", nil, 0)
		handles = append(handles, m.handle)
	}
	return task, handles
}

func rigRequest(list *piece.List, node string, i int) *transferpb.PieceRequest {
	id := list.ID()
	return &transferpb.PieceRequest{Digest: list.Digest().String(), List: id[:], Piece: int32(i), Node: node}
}

func TestGRPCsWriterGivesASlotBackWithoutTheTasksLock(t *testing.T) {
	data, _, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task, _ := r.full(t, data, list, "a")
	reply, err := r.piece(t.Context(), rigRequest(list, "a", 0))
	if err != nil || reply.Data.Len() != rigMiB {
		t.Fatalf("piece = %d bytes, %v; want one piece", reply.Data.Len(), err)
	}
	task.mu.Lock()
	if got := task.uploads.Load(); got != 1 {
		t.Errorf("%d slots in use while a piece is sent; want 1", got)
	}
	reply.Free() // as gRPC does; it would wait for ever
	task.slots.empty(task.uploads)
	if got := task.uploads.Load(); got != 0 || r.sending.Load() != 0 {
		t.Errorf("%d slots and %d bytes in use after a piece was sent; want none", got, r.sending.Load())
	}
	task.mu.Unlock()
}

func TestARequestThatFindsNoSlotTakesNoPieceFromTheSeeding(t *testing.T) {
	data, _, list := rigBlob(6 * rigMiB)
	r := newRig(t, func(c *Config) { c.UploadSlots = 2 })
	task, peers := r.full(t, data, list, "a", "b")
	task.uploads.Force(peers[1])
	task.uploads.Force(peers[1])
	head := &transferpb.PieceReply{}
	if l, _ := task.admit(rigRequest(list, "a", 3), head); l != nil || head.GetStatus() != transferpb.PieceReply_STATUS_BUSY {
		t.Fatalf("admit without a free slot = %v, %v; want busy", l, head.GetStatus())
	}
	out := make(map[int]bool)
	for range list.Count() {
		for _, p := range task.register.Seeder().Next(r.now(), 1) {
			out[p.Piece] = true
			task.register.Seeder().Acked(p.Peer, p.Piece, r.now())
		}
	}
	if !out[3] || len(out) != list.Count() {
		t.Errorf("pieces %v were pushed; want all, piece 3 too, which never left", out)
	}
}

func TestWhatTheSeedingRefusesTakesNoSlot(t *testing.T) {
	data, _, list := rigBlob(6 * rigMiB)
	r := newRig(t, nil)
	task, _ := r.full(t, data, list, "a", "b")
	first, _ := task.admit(rigRequest(list, "a", 0), &transferpb.PieceReply{})
	again, _ := task.admit(rigRequest(list, "b", 0), &transferpb.PieceReply{})
	if first == nil || again != nil || task.uploads.Load() != 1 {
		t.Errorf("admit = %v, then %v, with %d slots in use; want the first alone, in one", first != nil, again != nil, task.uploads.Load())
	}
}

func TestAcceptingAPieceHoldsNoPlaceOfTheHashersWhileTheDiskWrites(t *testing.T) {
	data, d, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task := r.idle(t, d)
	if err := task.adopt(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	task.files.Lock() // the disk takes its time
	done := make(chan error, 1)
	go func() {
		done <- task.accept(t.Context(), list, 0, mem.BufferSlice{mem.SliceBuffer(data[:rigMiB])}, self, true)
	}()
	for r.counters.piecesReceived.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range cap(r.checking) {
		r.checking <- struct{}{} // all are to be had, once the piece is hashed
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := task.accept(ctx, list, 1, mem.BufferSlice{mem.SliceBuffer(data[rigMiB : 2*rigMiB])}, self, true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("accept for a caller that has left = %v; want context.Canceled", err)
	}
	task.files.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAPushThatOvertakesItsMidstateIsTakenOnceThatIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d, whole := rigBlob(6 * rigMiB)
		r := newRig(t, nil)
		task := r.idle(t, d)
		list, err := piece.FromHeader(whole.Header())
		if err != nil {
			t.Fatal(err)
		}
		if err := task.adopt(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		task.at = "owner"
		answer := make(chan *transferpb.PushReply, 1)
		go func() {
			reply, _ := r.pushed(t.Context(), rigPush(d, list, data, 3))
			answer <- reply
		}()
		synctest.Wait()
		select {
		case reply := <-answer:
			t.Fatalf("Push before its midstate was answered %v at once; want it to wait", reply)
		default:
		}
		if err := task.extendFrom(1, whole.Midstates(1)); err != nil {
			t.Fatal(err)
		}
		if reply := <-answer; !reply.GetAccepted() || !task.fetcher.Has(3) {
			t.Errorf("Push once its midstate is here = %v; want it accepted", reply)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if task.awaitMidstate(ctx, list, list.Count()+1) {
			t.Error("awaitMidstate of a caller that has left = true")
		}
	})
}

func TestPushedPiecesCountAgainstTheDownloadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces = 12
		data, d, list := rigBlob(pieces * rigMiB)
		r := newRig(t, func(c *Config) { c.Download = rigMiB })
		task := r.idle(t, d)
		if err := task.adopt(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		task.at = "owner"
		start := time.Now()
		for i := range pieces {
			if reply, err := r.pushed(t.Context(), rigPush(d, list, data, i)); err != nil || !reply.GetAccepted() {
				t.Fatalf("Push of piece %d = %v, %v; want it accepted", i, reply, err)
			}
		}
		// What the limit lets through at once, after a pause, is a message's length.
		if took, want := time.Since(start), (pieces-maxMessage>>20)*time.Second; took < want {
			t.Errorf("%d MiB were pushed within %v at 1 MiB/s; want at least %v", pieces, took, want)
		}
	})
}

func TestEveryPieceFitsALimit(t *testing.T) {
	for _, limit := range []int64{0, 1, 1 << 30} {
		if l := limiter(limit); l.WaitN(t.Context(), piece.MaxSize) != nil || spend(limiter(limit), maxMessage) != 0 {
			t.Errorf("a limit of %d bytes a second does not take the largest piece, or message, after a pause", limit)
		}
	}
}

func TestTheListOfALostIssuerIsGivenUpOnTheWordOfTheMeetingPoint(t *testing.T) {
	_, d, list := rigBlob(3 * rigMiB)
	for _, at := range []string{"issuer", "successor"} {
		r := newRig(t, nil)
		task := r.idle(t, d)
		if err := task.adopt(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		err := task.replied(t.Context(), at, &transferpb.RegisterReply{Error: &transferpb.Error{Code: transferpb.Error_CODE_MISMATCH}})
		task.end(err)
		if asFalse(task.failure()) == nil {
			t.Errorf("told by %s: the task ended with %v; want a falseListError, on which clients begin anew", at, task.failure())
		}
		if _, err := r.store.FindPartial(d); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("told by %s: FindPartial = %v; want the pieces of the false list dropped", at, err)
		}
		if passed := len(task.passedOver()) > 0; passed != (at == "issuer") {
			t.Errorf("told by %s: passed over: %v; want that only of who issued the list itself", at, passed)
		}
	}
}
