package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
)

// memoryPartial is a blob that lives in memory with a window of four pieces.
func memoryPartial(t *testing.T, data []byte, change func(*blobstore.Config)) *blobstore.Partial {
	t.Helper()
	s := openStore(t, func(c *blobstore.Config) {
		c.MaxBytes, c.MemoryWindow = 1, 4*blobstoretest.PieceSize
		if change != nil {
			change(c)
		}
	})
	p, err := s.OpenPartial(blobstoretest.List(t, data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestMemoryKeepsAWindowOfPieces(t *testing.T) {
	data := blobstoretest.Data(4, 12*blobstoretest.PieceSize)
	p := memoryPartial(t, data, nil)
	write := func(i int) error { return p.WritePiece(i, blobstoretest.Piece(p.List(), data, i)) }
	for i := range 8 { // nobody reads: pieces are only passed on
		if err := write(i); err != nil {
			t.Fatalf("WritePiece(%d) = %v; want nil", i, err)
		}
	}
	if got := p.Bitmap(); got.Count() != 4 || !got.Has(7) || got.Has(3) {
		t.Errorf("kept %x; want the last four", got.Bytes())
	}
	r, err := p.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var out slowWriter
	done := make(chan error, 1)
	go func() { done <- r.WriteRange(ctx, &out, 0, r.Size()) }()
	waitFor(t, func() bool { from, _ := p.Window(); return from == 0 })
	if from, to := p.Window(); from != 0 || to != 4 {
		t.Errorf("Window with a reader at the start = %d to %d; want 0 to 4", from, to)
	}
	if err := write(8); !errors.Is(err, blobstore.ErrWindow) {
		t.Errorf("WritePiece(8) outside of the window = %v; want ErrWindow", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- p.WaitWindow(ctx, 4) }()
	for i := range 4 {
		if err := write(i); err != nil {
			t.Fatalf("WritePiece(%d) = %v; want nil", i, err)
		}
	}
	if err := <-waited; err != nil {
		t.Errorf("WaitWindow(4) once the reader moved = %v; want nil", err)
	}
	cancel()
	<-done
}

// An owner hashes in order. A client that reads a range in the middle, or the end, must not hold it up for good.
func TestAnOwnerInOrderServesRangesFromMemory(t *testing.T) {
	data := blobstoretest.Data(6, 40*blobstoretest.PieceSize)
	for _, first := range []int{20, 38, 39} {
		p := memoryPartial(t, data, nil)
		r, err := p.OpenReader()
		if err != nil {
			t.Fatal(err)
		}
		off, n := int64(first)*blobstoretest.PieceSize, int64(blobstoretest.PieceSize)
		var got bytes.Buffer
		done := make(chan error, 1)
		go func() { done <- r.WriteRange(t.Context(), &got, off, n) }()
		if first < 39 { // the last piece begins with the chain
			waitFor(t, func() bool { from, _ := p.Window(); return from == first })
		}
		for i := range p.List().Count() {
			if err := p.WaitWindow(t.Context(), i); err != nil {
				t.Fatalf("WaitWindow(%d) = %v; want nil", i, err)
			}
			if err := p.WritePiece(i, blobstoretest.Piece(p.List(), data, i)); err != nil {
				t.Fatalf("WritePiece(%d) = %v; want nil", i, err)
			}
		}
		if err := <-done; err != nil || !bytes.Equal(got.Bytes(), data[off:off+n]) {
			t.Errorf("range from piece %d: %d bytes, %v; want its bytes", first, got.Len(), err)
		}
		_ = r.Close()
	}
}

type slowWriter struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (w *slowWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(b)
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if what() {
			return
		}
	}
	t.Fatal("what was waited for did not come")
}

// stalledWriter takes nothing until it is let go.
type stalledWriter struct {
	bytes.Buffer
	letGo chan struct{}
}

func (w *stalledWriter) Write(b []byte) (int, error) {
	<-w.letGo
	return w.Buffer.Write(b)
}

func TestAStalledReaderHoldsTheOthersUpForAShortTimeOnly(t *testing.T) {
	data := blobstoretest.Data(5, 30*blobstoretest.PieceSize+7)
	p := memoryPartial(t, data, func(c *blobstore.Config) { c.MemoryStall = 50 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	feeding := make(chan error, 1)
	go func() { feeding <- feed(ctx, p, data) }()
	stalled, quick := &stalledWriter{letGo: make(chan struct{})}, &slowWriter{}
	var readers [2]*blobstore.PartialReader
	for k := range readers {
		r, err := p.OpenReader()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		readers[k] = r
	}
	late := make(chan error, 1)
	go func() { late <- readers[0].WriteRange(ctx, stalled, 0, p.Size()) }()
	if err := readers[1].WriteRange(ctx, quick, 0, p.Size()); err != nil || !bytes.Equal(quick.got.Bytes(), data) {
		t.Errorf("reader beside a stalled one: %d bytes, %v; want all", quick.got.Len(), err)
	}
	close(stalled.letGo)
	if err := <-late; err != nil || !bytes.Equal(stalled.Bytes(), data) {
		t.Errorf("reader that stalled and went on: %d bytes, %v; want all", stalled.Len(), err)
	}
	cancel()
	if err := <-feeding; err != nil {
		t.Errorf("WritePiece: %v", err)
	}
}

// feed writes the pieces that the window asks for until ctx is done.
func feed(ctx context.Context, p *blobstore.Partial, data []byte) error {
	for ctx.Err() == nil {
		changed := p.Changed()
		from, to := p.Window()
		for i := from; i < to; i++ {
			if p.Has(i) {
				continue
			}
			if err := p.WritePiece(i, blobstoretest.Piece(p.List(), data, i)); err != nil && !errors.Is(err, blobstore.ErrWindow) {
				return err
			}
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// pull has a blob arrive and read at the same time.
func pull(ctx context.Context, s *blobstore.Store, t *testing.T, data []byte) error {
	p, err := s.OpenPartial(blobstoretest.List(t, data))
	if err != nil {
		return err
	}
	defer p.Close()
	r, err := p.OpenReader()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	feedCtx, cancel := context.WithCancel(ctx)
	feeding := make(chan error, 1)
	go func() { feeding <- feed(feedCtx, p, data) }()
	var got bytes.Buffer
	err = r.WriteRange(ctx, &got, 0, r.Size())
	cancel()
	if feedErr := <-feeding; err == nil {
		err = feedErr
	}
	if err == nil && !bytes.Equal(got.Bytes(), data) {
		err = fmt.Errorf("reader got %d bytes that differ", got.Len())
	}
	if commitErr := p.Commit(blobstore.Origin{}); err == nil && !errors.Is(commitErr, blobstore.ErrNotKept) {
		err = commitErr
	}
	return err
}
