package blobstore_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
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

// mountSmall mounts a file system of 4 MiB for the test.
func mountSmall(t *testing.T) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("this machine does not let tests mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestADiskThatIsFullBeforeTheBudgetIsMakesRoom(t *testing.T) {
	s := openDir(t, mountSmall(t), nil)
	for k := range uint64(8) {
		data := blobstoretest.Data(k, mebi)
		blobstoretest.Commit(t, s, data)
		if err := s.Put(t.Context(), blobstoretest.Digest(data[:k]), data[:k], blobstore.Origin{}); err != nil {
			t.Errorf("Put %d = %v; want nil", k, err)
		}
	}
	if got := s.Stats(); got.Evicted == 0 || got.MemoryOnly != 0 {
		t.Errorf("Stats = %+v; want blobs evicted and none in memory", got)
	}
}

func TestARealFullDiskFailsNoPull(t *testing.T) {
	dir := mountSmall(t)
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

// The disk stops after every number of operations in turn, as under a kill there. What was promised before is there
// afterwards, and nothing is wrong.
func TestAStopAfterAnyDiskOperationLeavesAStoreThatOpens(t *testing.T) {
	old, arriving, small := blobstoretest.Data(1, 2*blobstoretest.PieceSize), blobstoretest.Data(2, 3*blobstoretest.PieceSize), []byte("{}")
	base := t.TempDir()
	s := openDir(t, base, nil)
	blobstoretest.Commit(t, s, old)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flipBit(t, blobFile(base, blobstoretest.Digest(old)), 10)
	for n := int64(0); ; n++ {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		bad := &fault{err: syscall.EIO, ops: "open create write truncate sync rename"}
		bad.skip.Store(n)
		promised := stopInTheMiddle(t, dir, bad, old, arriving, small)
		s := openDir(t, dir, nil)
		for d, data := range promised {
			if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) || !s.Linked(nginx, d) {
				t.Errorf("stop after %d operations: promised blob %s: %d bytes, %v; want it whole and linked", n, d, len(got), err)
			}
		}
		s.Each(func(d oci.Digest, _ int64) bool {
			if got, err := blobstoretest.Read(t, s, d); err == nil && blobstoretest.Digest(got) != d {
				t.Errorf("stop after %d operations: blob %s is wrong", n, d)
			}
			return true
		})
		if err := pull(t.Context(), s, t, arriving); err != nil && !errors.Is(err, blobstore.ErrWhole) {
			t.Errorf("stop after %d operations: pull afterwards = %v; want nil", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if bad.hits.Load() == 0 {
			t.Logf("stopped after each of %d operations", n)
			return
		}
	}
}

// stopInTheMiddle finds rot, commits, puts, links and deletes on a disk that stops somewhere; it returns what was
// promised to stay.
func stopInTheMiddle(t *testing.T, dir string, bad *fault, old, arriving, small []byte) map[oci.Digest][]byte {
	t.Helper()
	promised := make(map[oci.Digest][]byte)
	s, err := blobstore.OpenFaulty(blobstore.Default(dir), quiet(t), bad.check)
	if err != nil {
		return promised
	}
	defer func() { _ = s.Close() }()
	if got, err := blobstoretest.Read(t, s, blobstoretest.Digest(old)); err == nil {
		t.Errorf("read of a rotten blob = %d bytes, nil; want an error", len(got))
	}
	if pull(t.Context(), s, t, arriving) == nil && has(s, arriving) {
		if s.Link(nginx, blobstoretest.Digest(arriving)) == nil && s.Usage().Alarm == "" {
			promised[blobstoretest.Digest(arriving)] = arriving
		}
	}
	if err := s.PutManifest(blobstoretest.Digest(small), "x", small, nginx); err == nil {
		promised[blobstoretest.Digest(small)] = small
	}
	return promised
}
