package transfer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// A fetch that nobody waits for is let go; who comes in that moment gets a fetch of its own, which the end of the old
// one does not touch.
func TestWhoComesWhileAFetchIsLetGoIsServed(t *testing.T) {
	data, d, _ := rigBlob(6 * rigMiB)
	r := newRig(t, func(c *Config) { c.Linger = 2 * time.Millisecond })
	r.up.blobs[d], r.up.stuck = data, map[oci.Digest]int{d: 3 * rigMiB}
	r.run(t)
	for i := range 400 {
		h, err := r.Get(Want{Digest: d})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := h.Ready(ctx, 2*rigMiB); err != nil {
			t.Fatalf("pull %d: Ready = %v; want the bytes that the upstream gives", i, err)
		}
		cancel()
		_ = h.Close()
		time.Sleep(rand.N(8 * time.Millisecond)) // to come at any moment of the end of the last fetch
	}
}

func TestABlobThatBecameWholeMeanwhileIsTakenAsItIs(t *testing.T) {
	data, d, list := rigBlob(3*rigMiB + 5)
	r := newRig(t, nil)
	task := r.idle(t, d)
	if err := r.store.Put(t.Context(), d, data, blobstore.Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := task.adopt(t.Context(), list); err != nil || !task.isComplete() {
		t.Fatalf("adopt = %v, complete: %v; want the blob taken whole", err, task.isComplete())
	}
	buf, err := task.read(t.Context(), task.list, 1)
	if err != nil || string(*buf) != string(data[rigMiB:2*rigMiB]) {
		t.Errorf("read = %v; want piece 1 of the whole blob", err)
	}
}

func TestAListThatReplacesAnotherStartsOverAndItsReadersGoOn(t *testing.T) {
	data, d, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task := r.idle(t, d)
	if err := task.adopt(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	task.wait(+1)
	h := &Handle{task: task, want: Want{Digest: d}}
	defer func() { _ = h.Close() }()
	ready := make(chan error, 1)
	go func() { ready <- h.Ready(t.Context(), 0) }()
	other := rigList(d, data, "another issuer")
	if err := task.adopt(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := task.write(other, 0, self, false, data[:rigMiB]); err != nil {
		t.Fatal(err)
	}
	if err := <-ready; err != nil {
		t.Errorf("Ready of a reader that came before the other list = %v; want its first piece", err)
	}
	if err := task.write(list, 1, self, false, data[rigMiB:2*rigMiB]); !errors.Is(err, errOwn) {
		t.Errorf("write of a piece of the list that was given up = %v; want errOwn", err)
	}
}

// While the disk takes its time over a list, what needs the task's lock goes on.
func TestNothingWaitsForTheDiskWithTheTasksLock(t *testing.T) {
	disk := blobstore.Default(t.TempDir())
	disk.MaxBytes = rigMiB // of which the store complains in the midst of opening a larger blob
	complaint := &slowLog{said: make(chan struct{}), goOn: make(chan struct{})}
	r := newRigOn(t, disk, slog.New(complaint), nil)
	_, d, list := rigBlob(5 * rigMiB)
	task := r.idle(t, d)
	adopted := make(chan error, 1)
	go func() { adopted <- task.adopt(t.Context(), list) }()
	<-complaint.said
	if !task.mu.TryLock() {
		t.Error("the task's lock is held while room is made on the disk")
	} else {
		task.mu.Unlock()
	}
	close(complaint.goOn)
	if err := <-adopted; err != nil {
		t.Error(err)
	}
}

// A slowLog takes its time over the first line.
type slowLog struct {
	slog.Handler
	once       sync.Once
	said, goOn chan struct{}
}

func (l *slowLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *slowLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *slowLog) WithGroup(string) slog.Handler            { return l }

func (l *slowLog) Handle(context.Context, slog.Record) error {
	l.once.Do(func() {
		close(l.said)
		<-l.goOn
	})
	return nil
}

func TestTheEndOfAFetchIsNotTheClientsOwn(t *testing.T) {
	_, d, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task := r.idle(t, d)
	if err := task.adopt(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	task.end(context.Canceled)
	h := &Handle{task: task, want: Want{Digest: d}}
	if err := h.Ready(t.Context(), 0); errors.Is(err, context.Canceled) || !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("Ready of a fetch that the node ended = %v; want unavailable, and nothing of a context", err)
	}
	if err := h.Done(t.Context()); errors.Is(err, context.Canceled) || !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("Done of a fetch that the node ended = %v; want unavailable, and nothing of a context", err)
	}
}

func TestATaskThatIsOverTakesNoListAnyMore(t *testing.T) {
	_, d, list := rigBlob(3 * rigMiB)
	r := newRig(t, nil)
	task := r.idle(t, d)
	task.end(nil)
	if err := task.adopt(t.Context(), list); err == nil {
		t.Error("adopt after the end = nil; want an error")
	}
	if p, err := r.store.FindPartial(d); err == nil {
		p.Close()
		t.Error("the partial blob of a task that is over was left open")
	}
}
