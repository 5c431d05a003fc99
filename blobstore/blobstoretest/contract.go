package blobstoretest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// A Mode is a store to hold to the contract.
type Mode struct {
	Open  func(t *testing.T) *blobstore.Store // an empty store; the test closes it
	Keeps bool                                // blobs stay; false: everything streams through memory
}

// Run holds a mode of the store to the contract: what streams through is right in every mode, what is kept is right and
// found again in those that keep.
func Run(t *testing.T, mode Mode) {
	stories := []struct {
		name  string
		keeps bool // only where blobs are kept
		test  func(*testing.T, *blobstore.Store)
	}{
		{"ReadersSeeExactlyTheBytesWhileTheyArrive", false, readersDuringGrowth},
		{"TheFirstPieceIsSentBeforeTheSecondArrives", false, firstPieceAtOnce},
		{"TheLastPieceWaitsForTheChain", false, lastPieceWaits},
		{"RangesAreServedWhileTheBlobArrives", false, ranges},
		{"AFailureReachesReadersBeforeTheLastPiece", false, failure},
		{"WaitingEndsWithTheContext", false, waitingEnds},
		{"BlobsOfOnePieceAndOfNone", false, smallest},
		{"OneDigestIsOnePartial", false, onePartial},
		{"AWrongPieceNumberOrLengthIsRefused", false, refusals},
		{"ACommittedBlobIsFound", true, commit},
		{"AnIncompleteBlobIsNotCommitted", true, incomplete},
		{"ReadersGoOnAcrossCommitAndDelete", true, acrossCommit},
		{"PiecesStayAfterClose", true, piecesStay},
		{"PutChecksAndKeeps", true, put},
		{"LinksAreKeptPerRepository", true, links},
		{"BytesAheadOfTheChain", true, ahead},
	}
	for _, story := range stories {
		if story.keeps && !mode.Keeps {
			continue
		}
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			s := mode.Open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close() = %v; want nil", err)
				}
			}()
			story.test(t, s)
		})
	}
}

var repo = oci.Repository{Upstream: "docker.io", Path: "library/nginx"}

// fill writes all pieces of data that may be written, over and over, until the chain is closed and every reader is
// done; it is what a mover does with Window.
func fill(ctx context.Context, p *blobstore.Partial, data []byte, order func(n int) []int) error {
	l := p.List()
	for ctx.Err() == nil {
		changed := p.Changed()
		from, to := p.Window()
		for _, k := range order(to - from) {
			i := from + k
			if p.Has(i) {
				continue
			}
			if err := p.WritePiece(i, Piece(l, data, i)); err != nil && !errors.Is(err, blobstore.ErrWindow) {
				return err
			}
		}
		if inMemory, _ := p.InMemory(); !inMemory {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

func inOrder(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

func open(t *testing.T, s *blobstore.Store, data []byte) *blobstore.Partial {
	t.Helper()
	p, err := s.OpenPartial(List(t, data))
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

func read(ctx context.Context, p *blobstore.Partial, off, n int64) ([]byte, error) {
	r, err := p.OpenReader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var got bytes.Buffer
	err = r.WriteRange(ctx, &got, off, n)
	return got.Bytes(), err
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func readersDuringGrowth(t *testing.T, s *blobstore.Store) {
	data := Data(1, 40*PieceSize+17)
	p := open(t, s, data)
	ctx, cancel := context.WithCancel(deadline(t))
	var readers, writers sync.WaitGroup
	for k := range 8 {
		readers.Go(func() {
			got, err := read(ctx, p, 0, p.Size())
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("reader %d: %d bytes, equal %v, err %v; want all %d", k, len(got), bytes.Equal(got, data), err, len(data))
			}
		})
	}
	for range 3 {
		writers.Go(func() {
			if err := fill(ctx, p, data, rand.Perm); err != nil {
				t.Errorf("WritePiece: %v", err)
			}
		})
	}
	readers.Wait()
	cancel()
	writers.Wait()
}

func firstPieceAtOnce(t *testing.T, s *blobstore.Store) {
	data := Data(2, 3*PieceSize)
	p := open(t, s, data)
	r, err := p.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithCancel(deadline(t))
	from, to := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- r.WriteRange(ctx, to, 0, p.Size()) }()
	if err := p.WritePiece(0, data[:PieceSize]); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, PieceSize)
	if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, data[:PieceSize]) {
		t.Errorf("first piece while the second is missing: err %v; want its bytes", err)
	}
	cancel()
	_ = from.Close()
	if err := <-done; err == nil {
		t.Error("WriteRange of a blob that never ends = nil; want an error")
	}
}

func lastPieceWaits(t *testing.T, s *blobstore.Store) {
	data := Data(3, 3*PieceSize+5)
	p := open(t, s, data)
	l := p.List()
	write := func(i int) {
		t.Helper()
		if err := p.WritePiece(i, Piece(l, data, i)); err != nil {
			t.Fatalf("WritePiece(%d) = %v; want nil", i, err)
		}
	}
	write(0)
	write(2)
	write(3)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if end, err := p.Readable(ctx, 3*PieceSize); err == nil {
		t.Errorf("Readable(last piece) with a piece missing = %d, nil; want it to wait", end)
	}
	if end, err := p.Readable(deadline(t), 2*PieceSize); err != nil || end != 3*PieceSize {
		t.Errorf("Readable(piece 2) = %d, %v; want the end of piece 2: %d", end, err, 3*PieceSize)
	}
	write(1)
	if end, err := p.Readable(deadline(t), 0); err != nil || end != int64(len(data)) {
		t.Errorf("Readable(0) of all = %d, %v; want %d", end, err, len(data))
	}
}

func ranges(t *testing.T, s *blobstore.Store) {
	data := Data(4, 20*PieceSize+99)
	p := open(t, s, data)
	ctx, cancel := context.WithCancel(deadline(t))
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := fill(ctx, p, data, inOrder); err != nil {
			t.Errorf("WritePiece: %v", err)
		}
	})
	size := int64(len(data))
	for _, r := range [][2]int64{{0, 1}, {PieceSize - 1, 2}, {5, 7 * PieceSize}, {size - 1, 1}, {19 * PieceSize, PieceSize + 99}, {3, 0}, {0, size}} {
		got, err := read(ctx, p, r[0], r[1])
		if err != nil || !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
			t.Errorf("range %v: %d bytes, %v; want its bytes", r, len(got), err)
		}
	}
	for _, r := range [][2]int64{{-1, 1}, {0, size + 1}, {size, 1}, {1, -1}} {
		if _, err := read(ctx, p, r[0], r[1]); err == nil {
			t.Errorf("range %v = nil; want an error", r)
		}
	}
	cancel()
	writer.Wait()
}

func failure(t *testing.T, s *blobstore.Store) {
	data := Data(5, 4*PieceSize)
	p := open(t, s, data)
	for i := range 3 {
		if err := p.WritePiece(i, Piece(p.List(), data, i)); err != nil {
			t.Fatal(err)
		}
	}
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		got, err := read(deadline(t), p, 0, p.Size())
		done <- result{got, err}
	}()
	if _, err := p.Readable(deadline(t), 0); err != nil {
		t.Fatal(err)
	}
	p.Fail(oci.ErrUnavailable)
	got := <-done
	if !errors.Is(got.err, oci.ErrUnavailable) || len(got.data) > 3*PieceSize || !bytes.HasPrefix(data, got.data) {
		t.Errorf("reader of a failed blob: %d bytes, %v; want at most three pieces and the failure", len(got.data), got.err)
	}
	if err := p.WritePiece(3, Piece(p.List(), data, 3)); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("WritePiece after Fail = %v; want the failure", err)
	}
	if _, err := p.Readable(deadline(t), 0); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("Readable after Fail = %v; want the failure", err)
	}
}

func waitingEnds(t *testing.T, s *blobstore.Store) {
	p := open(t, s, Data(6, 2*PieceSize))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := read(ctx, p, 0, p.Size())
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WriteRange with a cancelled context = %v; want %v", err, context.Canceled)
	}
}

func smallest(t *testing.T, s *blobstore.Store) {
	for _, size := range []int{0, 1, PieceSize} {
		data := Data(7, size)
		p := open(t, s, data)
		if err := p.WritePiece(0, data); err != nil {
			t.Fatalf("WritePiece of %d bytes: %v", size, err)
		}
		got, err := read(deadline(t), p, 0, int64(size))
		if err != nil || !bytes.Equal(got, data) || !p.Complete() {
			t.Errorf("blob of %d bytes: %d bytes, %v, complete %v; want all", size, len(got), err, p.Complete())
		}
	}
}

func onePartial(t *testing.T, s *blobstore.Store) {
	data := Data(8, 4*PieceSize)
	l := List(t, data)
	first, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.OpenPartial(l)
	if err != nil || first != second {
		t.Fatalf("second OpenPartial = %p, %v; want the first %p", second, err, first)
	}
	if _, err := s.OpenPartial(List(t, data)); !errors.Is(err, blobstore.ErrOtherList) {
		t.Errorf("OpenPartial with another list = %v; want ErrOtherList", err)
	}
	found, err := s.FindPartial(l.Digest())
	if err != nil || found != first {
		t.Errorf("FindPartial = %p, %v; want %p", found, err, first)
	}
	for range 3 {
		first.Close()
	}
	if _, err := s.FindPartial(Digest([]byte("nothing"))); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("FindPartial of nothing = %v; want oci.ErrNotFound", err)
	}
}

func refusals(t *testing.T, s *blobstore.Store) {
	data := Data(9, 2*PieceSize)
	p := open(t, s, data)
	for _, bad := range []struct{ i, n int }{{-1, PieceSize}, {2, PieceSize}, {0, PieceSize - 1}, {1, 0}} {
		if err := p.WritePiece(bad.i, make([]byte, bad.n)); err == nil {
			t.Errorf("WritePiece(%d, %d bytes) = nil; want an error", bad.i, bad.n)
		}
	}
	if _, err := p.ReadPiece(0, make([]byte, PieceSize)); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("ReadPiece of a missing piece = %v; want oci.ErrNotFound", err)
	}
}
