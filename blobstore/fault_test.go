package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
)

// A fault decides which operation on which file fails, and counts.
type fault struct {
	err  error
	ops  string // the operations that fail
	only string // in names that contain this
	skip atomic.Int64
	off  atomic.Bool
	hits atomic.Int64
}

func (f *fault) check(op, name string) error {
	if f.off.Load() || !strings.Contains(f.ops, op) || !strings.Contains(name, f.only) || f.skip.Add(-1) >= 0 {
		return nil
	}
	f.hits.Add(1)
	return f.err
}

func openFaulty(t *testing.T, f *fault, change func(*blobstore.Config)) *blobstore.Store {
	t.Helper()
	cfg := blobstore.Default(t.TempDir())
	cfg.MemoryWindow = 4 * blobstoretest.PieceSize
	if change != nil {
		change(&cfg)
	}
	s, err := blobstore.OpenFaulty(cfg, quiet(t), f.check)
	if err != nil {
		t.Fatalf("OpenFaulty: %v", err)
	}
	t.Cleanup(func() {
		f.off.Store(true)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
	})
	return s
}

func TestContractOnAFailingDisk(t *testing.T) {
	for name, f := range map[string]struct {
		err  error
		ops  string
		skip int64
	}{
		"FullFromTheStart":   {syscall.ENOSPC, "write", 0},
		"FullAfterThreeIOs":  {syscall.ENOSPC, "write", 3},
		"FullAfterTenIOs":    {syscall.ENOSPC, "write truncate", 10},
		"ReadOnly":           {syscall.EROFS, "create write truncate rename", 0},
		"ErrorsAfterTwoIOs":  {syscall.EIO, "create write truncate sync rename", 2},
		"NoSparseFiles":      {syscall.EFBIG, "truncate", 0},
		"SyncFails":          {syscall.EIO, "sync", 0},
		"RenameAndSyncFail":  {syscall.EIO, "sync rename", 0},
		"TooManyOpenFiles":   {syscall.EMFILE, "create", 0},
		"QuotaReachedLater":  {syscall.EDQUOT, "write", 7},
		"EverythingButReads": {syscall.EIO, "open create write truncate sync rename", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blobstoretest.Run(t, blobstoretest.Mode{Open: func(t *testing.T) *blobstore.Store {
				bad := &fault{err: f.err, ops: f.ops, only: "partial"}
				bad.skip.Store(f.skip)
				return openFaulty(t, bad, nil)
			}})
		})
	}
}

func TestAFullDiskShowsAnAlarmAndIsUsedAgainOnceItIsNot(t *testing.T) {
	bad := &fault{err: syscall.ENOSPC, ops: "write", only: "partial"}
	s := openFaulty(t, bad, func(c *blobstore.Config) { c.ScrubRate = 0 })
	data := blobstoretest.Data(1, 10*blobstoretest.PieceSize)
	l := blobstoretest.List(t, data)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WritePiece(0, blobstoretest.Piece(l, data, 0)); err != nil {
		t.Fatalf("WritePiece on a full disk = %v; want nil", err)
	}
	if u := s.Usage(); !strings.Contains(u.Alarm, "no space left") || u.InMemory != 1 {
		t.Errorf("Usage = %+v; want an alarm that says that no space is left", u)
	}
	if err := s.Put(t.Context(), blobstoretest.Digest([]byte("x")), []byte("x"), blobstore.Origin{}); !errors.Is(err, blobstore.ErrNotKept) {
		t.Errorf("Put on a full disk = %v; want ErrNotKept", err)
	}
	raw := []byte(`{}`)
	if err := s.PutManifest(blobstoretest.Digest(raw), "application/json", raw, nginx); !errors.Is(err, blobstore.ErrNotKept) {
		t.Errorf("PutManifest on a full disk = %v; want ErrNotKept", err)
	}
	if _, got, err := s.Manifest(blobstoretest.Digest(raw)); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("Manifest that is in memory alone = %q, %v; want it", got, err)
	}
	p.Drop()
	p.Close()
	bad.off.Store(true)
	stop := running(t, s)
	deadline := time.Now().Add(30 * time.Second)
	for s.Usage().Alarm != "" && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond) // the store looks every ten seconds
	}
	stop()
	if alarm := s.Usage().Alarm; alarm != "" {
		t.Errorf("alarm once the disk works = %q; want none", alarm)
	}
	blobstoretest.Commit(t, s, data)
}

func TestAFailedSyncAtCommitKeepsNothingAndHarmsNoReader(t *testing.T) {
	data := blobstoretest.Data(2, 5*blobstoretest.PieceSize)
	l := blobstoretest.List(t, data)
	for _, ops := range []string{"sync", "rename"} {
		bad := &fault{err: syscall.EIO, ops: ops}
		s := openFaulty(t, bad, nil)
		p, err := s.OpenPartial(l)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Count() {
			if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Commit(blobstore.Origin{}); !errors.Is(err, blobstore.ErrNotKept) {
			t.Errorf("Commit with failing %s = %v; want ErrNotKept", ops, err)
		}
		r, err := p.OpenReader()
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := r.WriteRange(t.Context(), &got, 0, r.Size()); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("reader after a failed Commit: %d bytes, %v; want all", got.Len(), err)
		}
		_ = r.Close()
		p.Close()
		if has(s, data) || s.Usage().Alarm == "" {
			t.Errorf("failing %s: kept %v, alarm %q; want it not kept, and an alarm", ops, has(s, data), s.Usage().Alarm)
		}
	}
}

func TestAPieceThatTheDiskDoesNotGiveBackIsFetchedAnew(t *testing.T) {
	data := blobstoretest.Data(3, 3*blobstoretest.PieceSize)
	l := blobstoretest.List(t, data)
	bad := &fault{err: syscall.EIO, ops: "read", only: ".data"}
	var heard rots
	s := openFaulty(t, bad, func(c *blobstore.Config) { c.OnRot = heard.on })
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.WritePiece(1, blobstoretest.Piece(l, data, 1)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, blobstoretest.PieceSize)
	if _, err := p.ReadPiece(1, buf); !errors.Is(err, syscall.EIO) || p.Has(1) || len(heard.pieces) != 1 {
		t.Errorf("ReadPiece = %v, has %v, heard %v; want the error, the piece gone, and word of it", err, p.Has(1), heard.pieces)
	}
	bad.off.Store(true)
	if err := p.WritePiece(1, blobstoretest.Piece(l, data, 1)); err != nil || !p.Has(1) {
		t.Errorf("WritePiece again = %v, has %v; want it back", err, p.Has(1))
	}
}

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

func TestARealFullDiskFailsNoPull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("this machine does not let tests mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	cfg := blobstore.Default(dir)
	cfg.MemoryWindow = 4 * blobstoretest.PieceSize
	s, err := blobstore.Open(cfg, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	stop := running(t, s)
	defer stop()
	var pulls sync.WaitGroup
	for k := range uint64(4) {
		pulls.Go(func() {
			if err := pull(t.Context(), s, t, blobstoretest.Data(k, 6*mebi)); err != nil {
				t.Errorf("pull %d through a full disk = %v; want nil", k, err)
			}
		})
	}
	pulls.Wait()
	if u := s.Usage(); u.Alarm == "" {
		t.Errorf("Usage = %+v; want an alarm", u)
	}
	small := []byte("small")
	if err := s.Put(t.Context(), blobstoretest.Digest(small), small, blobstore.Origin{}); err != nil && !errors.Is(err, blobstore.ErrNotKept) {
		t.Errorf("Put on a full disk = %v; want nil or ErrNotKept", err)
	}
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
