package blobstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func blobFile(dir string, d oci.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm(), d.Hex()[:2], d.Hex())
}

func flipBit(t *testing.T, name string, at int64) {
	t.Helper()
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// rots collects what Config.OnRot hears.
type rots struct {
	mu     sync.Mutex
	pieces []int
}

func (r *rots) on(_ oci.Digest, piece int) {
	r.mu.Lock()
	r.pieces = append(r.pieces, piece)
	r.mu.Unlock()
}

// stored is a store that was closed and opened again with one blob in it, so that nothing is checked yet.
func stored(t *testing.T, data []byte, between func(dir string), change func(*blobstore.Config)) (*blobstore.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	blobstoretest.Commit(t, s, data)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if between != nil {
		between(dir)
	}
	return openDir(t, dir, change), dir
}

func TestAFlippedBitCostsOnePiece(t *testing.T) {
	const bad = 7
	data := blobstoretest.Data(1, 20*blobstoretest.PieceSize+3)
	d := blobstoretest.Digest(data)
	var heard rots
	s, _ := stored(t, data, func(dir string) {
		flipBit(t, blobFile(dir, d), bad*blobstoretest.PieceSize+100)
	}, func(c *blobstore.Config) { c.OnRot = heard.on })

	if info, err := s.Stat(d); err != nil || info.Checked {
		t.Fatalf("Stat after reopening = %+v, %v; want unchecked", info, err)
	}
	got, err := blobstoretest.Read(t, s, d)
	wrong, ok := errors.AsType[*oci.MismatchError](err)
	if !ok || wrong.Piece != bad || !bytes.HasPrefix(data, got) || len(got) > bad*blobstoretest.PieceSize {
		t.Errorf("read of the rotten blob: %d bytes, %v; want right bytes up to piece %d and a mismatch there", len(got), err, bad)
	}
	if _, err := s.Open(d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Open after the rot was found = %v; want oci.ErrNotFound", err)
	}
	if len(heard.pieces) != 1 || heard.pieces[0] != bad {
		t.Errorf("OnRot heard %v; want piece %d once", heard.pieces, bad)
	}
	p, err := s.FindPartial(d)
	if err != nil {
		t.Fatalf("FindPartial = %v; want the good pieces", err)
	}
	defer p.Close()
	if missing := p.Bitmap().NextClear(0); missing != bad || p.Bitmap().Count() != p.List().Count()-1 {
		t.Errorf("partial lacks piece %d, has %d; want all but %d", missing, p.Bitmap().Count(), bad)
	}
	if !s.Linked(oci.Repository{Upstream: "docker.io", Path: "library/nginx"}, d) {
		t.Error("Linked after rot = false; want the links kept")
	}
	if err := p.WritePiece(bad, blobstoretest.Piece(p.List(), data, bad)); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(blobstore.Origin{}); err != nil {
		t.Fatalf("Commit of the healed blob = %v; want nil", err)
	}
	if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read of the healed blob: %d bytes, %v; want all", len(got), err)
	}
}

func TestTheLastPieceOfARottenBlobIsHeldBack(t *testing.T) {
	data := blobstoretest.Data(2, 3*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	for _, lost := range []bool{false, true} {
		s, _ := stored(t, data, func(dir string) {
			flipBit(t, blobFile(dir, d), 0)
			if lost {
				if err := os.Remove(filepath.Join(dir, "index.db")); err != nil {
					t.Fatal(err)
				}
			}
		}, nil)
		b, err := s.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.List() == nil; got != lost {
			t.Errorf("list lost = %v; want %v", got, lost)
		}
		got, err := blobstoretest.Read(t, s, d)
		if _, ok := errors.AsType[*oci.MismatchError](err); !ok || len(got) > 2*blobstoretest.PieceSize {
			t.Errorf("list lost %v: read %d bytes, %v; want a mismatch before the last piece", lost, len(got), err)
		}
		_ = b.Close()
	}
}

func TestALostListIsMadeAnewByTheFirstRead(t *testing.T) {
	data := blobstoretest.Data(3, 5*blobstoretest.PieceSize+1)
	d := blobstoretest.Digest(data)
	s, _ := stored(t, data, func(dir string) {
		if err := os.Remove(filepath.Join(dir, "index.db")); err != nil {
			t.Fatal(err)
		}
	}, nil)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read without a list: %d bytes, %v; want all", len(got), err)
			}
		})
	}
	readers.Wait()
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if l, err := b.EnsureList(t.Context()); err != nil || l.Known() != l.Count() || l.Issuer() != "n1" || !b.Checked() {
		t.Errorf("EnsureList = %v, %v, checked %v; want a complete list of this node, checked", l, err, b.Checked())
	}
}

func TestManyReadersFindOneRot(t *testing.T) {
	data := blobstoretest.Data(4, 30*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	var heard rots
	s, _ := stored(t, data, func(dir string) { flipBit(t, blobFile(dir, d), 29*blobstoretest.PieceSize) },
		func(c *blobstore.Config) { c.OnRot = heard.on })
	var readers sync.WaitGroup
	start := make(chan struct{})
	for range 8 {
		b, err := s.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer func() { _ = b.Close() }()
			r, err := b.NewReader()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = r.Close() }()
			<-start
			var got bytes.Buffer
			err = r.WriteRange(t.Context(), &got, 0, b.Size())
			if _, ok := errors.AsType[*oci.MismatchError](err); !ok || got.Len() > 29*blobstoretest.PieceSize {
				t.Errorf("read %d bytes, %v; want a mismatch", got.Len(), err)
			}
		})
	}
	close(start)
	readers.Wait()
	if len(heard.pieces) != 1 {
		t.Errorf("OnRot heard %v; want one piece once", heard.pieces)
	}
}

func TestARottenManifestIsNotServed(t *testing.T) {
	raw := []byte(`{"schemaVersion":2,"config":{}}`)
	d := blobstoretest.Digest(raw)
	s, _ := stored(t, raw, func(dir string) { flipBit(t, blobFile(dir, d), 3) }, nil)
	if _, _, err := s.Manifest(d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Manifest of rotten bytes = %v; want oci.ErrNotFound", err)
	}
}

func TestAManifestThatCannotBeReadForNowIsNotGivenUp(t *testing.T) {
	raw := []byte(`{"schemaVersion":2,"config":{}}`)
	d := blobstoretest.Digest(raw)
	s, dir := stored(t, raw, nil, nil)
	file := blobFile(dir, d)
	if err := errors.Join(os.Rename(file, file+".away"), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Manifest(d); err == nil || errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Manifest that cannot be read = %v; want an error that does not say that there is none", err)
	}
	if err := errors.Join(os.Remove(file), os.Rename(file+".away", file)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := s.Manifest(d); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("Manifest that can be read again = %q, %v; want its bytes", got, err)
	}
}

func TestARangeOfAnUncheckedBlobChecksItsOwnPiecesAlone(t *testing.T) {
	data := blobstoretest.Data(5, 10*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	s, _ := stored(t, data, func(dir string) { flipBit(t, blobFile(dir, d), 0) }, nil)
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	r, err := b.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var got bytes.Buffer
	off := int64(5*blobstoretest.PieceSize + 1)
	if err := r.WriteRange(t.Context(), &got, off, b.Size()-off); err != nil || !bytes.Equal(got.Bytes(), data[off:]) {
		t.Errorf("range of good pieces: %d bytes, %v; want its bytes", got.Len(), err)
	}
	if err := r.Ready(t.Context(), 0); err == nil {
		t.Error("Ready(0) of a rotten first piece = nil; want a mismatch")
	}
}

func TestATruncatedBlobFileIsNotServed(t *testing.T) {
	data := blobstoretest.Data(6, 3*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	s, dir := stored(t, data, nil, nil)
	if err := os.Chmod(blobFile(dir, d), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blobFile(dir, d), 100); err != nil {
		t.Fatal(err)
	}
	if got, err := blobstoretest.Read(t, s, d); err == nil {
		t.Errorf("read of a truncated file = %d bytes, nil; want an error", len(got))
	}
	if _, err := s.Open(d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Open after that = %v; want oci.ErrNotFound", err)
	}
}

func TestWhoHearsOfRotMayUseTheStoreAtOnce(t *testing.T) {
	data := blobstoretest.Data(7, 10*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	old := runtime.GOMAXPROCS(1) // one piece is checked at a time
	defer runtime.GOMAXPROCS(old)
	var s *blobstore.Store
	healed := errors.New("OnRot did not run")
	s, _ = stored(t, data, func(dir string) { flipBit(t, blobFile(dir, d), 0) }, func(c *blobstore.Config) {
		c.OnRot = func(d oci.Digest, i int) {
			p, err := s.FindPartial(d)
			if err != nil {
				healed = err
				return
			}
			defer p.Close()
			healed = errors.Join(p.WritePiece(i, blobstoretest.Piece(p.List(), data, i)), p.Commit(blobstore.Origin{}))
		}
	})
	if got, err := blobstoretest.Read(t, s, d); err == nil {
		t.Errorf("read of a rotten blob = %d bytes, nil; want a mismatch", len(got))
	}
	if healed != nil {
		t.Fatalf("healing in OnRot = %v; want nil", healed)
	}
	if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read of the healed blob: %d bytes, %v; want all", len(got), err)
	}
}
