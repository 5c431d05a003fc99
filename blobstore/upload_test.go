package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

var team = oci.Repository{Upstream: "farm.internal", Path: "team/app"}

var pushed = blobstore.Origin{Repository: team, Hosted: true}

func startUpload(t testing.TB, s *blobstore.Store) *blobstore.Upload {
	t.Helper()
	u, err := s.StartUpload(team, oci.SHA256)
	if err != nil {
		t.Fatalf("StartUpload = %v; want nil", err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func reopenUpload(t testing.TB, s *blobstore.Store, id string) *blobstore.Upload {
	t.Helper()
	u, err := s.Upload(id)
	if err != nil {
		t.Fatalf("Upload = %v; want nil", err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func appendAll(t testing.TB, u *blobstore.Upload, data []byte) {
	t.Helper()
	if n, err := u.Append(t.Context(), bytes.NewReader(data)); err != nil || n != int64(len(data)) {
		t.Fatalf("Append of %d bytes = %d, %v; want all", len(data), n, err)
	}
}

func wantBlob(t *testing.T, s *blobstore.Store, d oci.Digest, data []byte) {
	t.Helper()
	got, err := blobstoretest.Read(t, s, d)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("blob after Commit: %d bytes, %v; want all %d", len(got), err, len(data))
	}
	info, err := s.Stat(d)
	if err != nil || !info.Hosted || info.Size != int64(len(data)) || info.Origin != team || !s.Linked(team, d) {
		t.Errorf("Stat = %+v, %v; want it hosted and linked", info, err)
	}
}

func wantNoUploads(t *testing.T, s *blobstore.Store, dir string) {
	t.Helper()
	if u := s.Usage(); u.Uploads != 0 || u.UploadBytes != 0 {
		t.Errorf("Usage = %d uploads of %d bytes; want none", u.Uploads, u.UploadBytes)
	}
	files, err := os.ReadDir(filepath.Join(dir, "uploads"))
	if err != nil || len(files) != 0 {
		t.Errorf("uploads on disk: %v, %v; want none", files, err)
	}
}

func TestAnUploadBecomesAWholeBlobWithItsList(t *testing.T) {
	for _, size := range []int{0, 1, 512<<10 - 1, 512 << 10, 3<<20 + 5} {
		dir := t.TempDir()
		s := openDir(t, dir, nil)
		data := blobstoretest.Data(1, size)
		u := startUpload(t, s)
		half := size / 2
		appendAll(t, u, data[:half])
		appendAll(t, u, data[half:])
		if u.Offset() != int64(size) || u.Repository() != team {
			t.Errorf("Offset, Repository = %d, %v; want %d, %v", u.Offset(), u.Repository(), size, team)
		}
		d := blobstoretest.Digest(data)
		if err := u.Commit(t.Context(), d, pushed); err != nil {
			t.Fatalf("Commit = %v; want nil", err)
		}
		wantBlob(t, s, d, data)
		b, err := s.Open(d)
		if err != nil || !b.Checked() || b.List() == nil || b.List().Known() != b.List().Count() {
			t.Errorf("Open = %v; want it checked, with a complete list", err)
		}
		_ = b.Close()
		wantNoUploads(t, s, dir)
	}
}

func TestAnUploadOfTheOtherAlgorithmIsHashedAgain(t *testing.T) {
	data := blobstoretest.Data(2, 2<<20+9)
	for _, begun := range []string{oci.SHA256, oci.SHA512} {
		for _, asked := range []string{oci.SHA256, oci.SHA512} {
			s := openStore(t, nil)
			u, err := s.StartUpload(team, begun)
			if err != nil {
				t.Fatal(err)
			}
			appendAll(t, u, data)
			d := oci.FromBytes(asked, data)
			if err := u.Commit(t.Context(), d, pushed); err != nil {
				t.Fatalf("begun as %s: Commit as %s = %v; want nil", begun, asked, err)
			}
			wantBlob(t, s, d, data)
		}
	}
}

func TestAWrongDigestShowsNothingAndLeavesTheUpload(t *testing.T) {
	s := openStore(t, nil)
	data, other := blobstoretest.Data(3, 100_000), blobstoretest.Data(4, 100_000)
	u := startUpload(t, s)
	appendAll(t, u, data)
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		wrong := oci.FromBytes(algorithm, other)
		err := u.Commit(t.Context(), wrong, pushed)
		if bad, ok := errors.AsType[*oci.MismatchError](err); !ok || bad.Digest != wrong {
			t.Errorf("Commit = %v; want a MismatchError", err)
		}
		if _, err := s.Stat(wrong); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("Stat of the wrong digest = %v; want ErrNotFound", err)
		}
	}
	if _, err := s.Stat(blobstoretest.Digest(data)); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Stat of what was sent = %v; want ErrNotFound", err)
	}
	if err := u.Commit(t.Context(), blobstoretest.Digest(data), pushed); err != nil {
		t.Errorf("Commit as what it is = %v; want nil", err)
	}
}

func TestAnUploadSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	data := blobstoretest.Data(5, 2<<20+77)
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	u := startUpload(t, s)
	id := u.ID()
	cut := errors.New("connection lost")
	n, err := u.Append(t.Context(), io.MultiReader(bytes.NewReader(data[:1_300_000]), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) || n != 1_300_000 {
		t.Errorf("Append of a cut body = %d, %v; want what came, %v", n, err, cut)
	}
	// As a crash would leave it: neither the upload nor the store is closed, and the file has more than was noted.
	f, err := os.OpenFile(filepath.Join(dir, "uploads", id+".data"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(make([]byte, 5000))
	_ = f.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openDir(t, dir, nil)
	if got := s.Usage(); got.Uploads != 1 || got.UploadBytes != n {
		t.Errorf("Usage = %d uploads of %d bytes; want 1 of %d", got.Uploads, got.UploadBytes, n)
	}
	u = reopenUpload(t, s, id)
	if u.Offset() != n || u.Repository() != team {
		t.Errorf("after a restart: offset %d in %v; want %d in %v", u.Offset(), u.Repository(), n, team)
	}
	appendAll(t, u, data[n:])
	if err := u.Commit(t.Context(), blobstoretest.Digest(data), pushed); err != nil {
		t.Fatalf("Commit = %v; want nil", err)
	}
	wantBlob(t, s, blobstoretest.Digest(data), data)
	wantNoUploads(t, s, dir)
}

func TestAnUploadThatACrashLeftReadOnlyGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	u := startUpload(t, s)
	appendAll(t, u, []byte("some"))
	_ = u.Close()
	name := filepath.Join(dir, "uploads", u.ID()+".data")
	if err := os.Chmod(name, 0o444); err != nil {
		t.Fatal(err)
	}
	u = reopenUpload(t, s, u.ID())
	appendAll(t, u, []byte(" bytes"))
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat = %v, %v; want it writable again", info, err)
	}
}

func TestAnUploadHasOneHolder(t *testing.T) {
	s := openStore(t, nil)
	u := startUpload(t, s)
	if _, err := s.Upload(u.ID()); !errors.Is(err, blobstore.ErrBusy) {
		t.Errorf("Upload of one that is held = %v; want ErrBusy", err)
	}
	if err := u.Close(); err != nil {
		t.Errorf("Close = %v; want nil", err)
	}
	if _, err := u.Append(t.Context(), bytes.NewReader(nil)); !errors.Is(err, blobstore.ErrClosed) {
		t.Errorf("Append after Close = %v; want ErrClosed", err)
	}
	again := reopenUpload(t, s, u.ID())
	if err := errors.Join(again.Cancel(), again.Cancel(), again.Close()); err != nil {
		t.Errorf("Cancel = %v; want nil", err)
	}
	for _, id := range []string{u.ID(), "", "../../../../etc/passwd", "00000000-0000-4000-8000-000000000000"} {
		if _, err := s.Upload(id); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("Upload(%q) = %v; want ErrNotFound", id, err)
		}
	}
}

func TestUploadsThatTakeBytesAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, nil)
		wait := make(chan struct{})
		for range 128 {
			u := startUpload(t, s)
			go func() {
				_, _ = u.Append(t.Context(), readerFunc(func([]byte) (int, error) {
					<-wait
					return 0, io.EOF
				}))
			}()
		}
		synctest.Wait()
		u := startUpload(t, s)
		if _, err := u.Append(t.Context(), bytes.NewReader(nil)); !errors.Is(err, blobstore.ErrTooManyUploads) {
			t.Errorf("one Append more than may be = %v; want ErrTooManyUploads", err)
		}
		close(wait)
		synctest.Wait()
		appendAll(t, u, []byte("x"))
	})
}

func TestAnUploadEndsAtTheLimit(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxUpload = 600_000 })
	data := blobstoretest.Data(6, 600_001)
	u := startUpload(t, s)
	appendAll(t, u, data[:100_000])
	if n, err := u.Append(t.Context(), bytes.NewReader(data[100_000:])); !errors.Is(err, oci.ErrTooLarge) || n != 500_000 {
		t.Errorf("Append beyond the limit = %d, %v; want 500000, ErrTooLarge", n, err)
	}
	if err := u.Commit(t.Context(), blobstoretest.Digest(data[:600_000]), pushed); err != nil {
		t.Errorf("Commit of as much as may be = %v; want nil", err)
	}
	for range 2 {
		s := openStore(t, func(c *blobstore.Config) { c.MaxUploads = 1 })
		u := startUpload(t, s)
		if _, err := s.StartUpload(team, oci.SHA256); !errors.Is(err, blobstore.ErrTooManyUploads) {
			t.Errorf("second StartUpload = %v; want ErrTooManyUploads", err)
		}
		if err := u.Cancel(); err != nil {
			t.Errorf("Cancel = %v; want nil", err)
		}
	}
}

func TestAnUploadGoesOnAfterTheDiskWasFull(t *testing.T) {
	for name, ops := range map[string]string{"write": "write", "sync": "sync", "rename": "rename", "create": "create"} {
		t.Run(name, func(t *testing.T) {
			bad := &fault{err: syscall.ENOSPC, ops: ops, only: "uploads"}
			if ops == "sync" {
				bad.err = syscall.EIO
			}
			bad.off.Store(true)
			s := openFaulty(t, bad, nil)
			data := blobstoretest.Data(7, 3<<20)
			d := blobstoretest.Digest(data)
			u := startUpload(t, s)
			appendAll(t, u, data[:1<<20])
			bad.off.Store(false)
			n, err := u.Append(t.Context(), bytes.NewReader(data[1<<20:]))
			if !errors.Is(err, blobstore.ErrNotKept) || u.Offset() != 1<<20+n {
				t.Errorf("Append on a full disk = %d, %v with offset %d; want ErrNotKept", n, err, u.Offset())
			}
			if s.Usage().Alarm == "" {
				t.Error("no alarm")
			}
			bad.off.Store(true)
			id := u.ID()
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
			u = reopenUpload(t, s, id)
			appendAll(t, u, data[u.Offset():])
			if err := u.Commit(t.Context(), d, pushed); err != nil {
				t.Fatalf("Commit = %v; want nil", err)
			}
			wantBlob(t, s, d, data)
		})
	}
}

func TestACommitThatFailsCanBeTriedAgain(t *testing.T) {
	bad := &fault{err: syscall.ENOSPC, ops: "create rename", only: "blobs"}
	s := openFaulty(t, bad, nil)
	data := blobstoretest.Data(8, 1<<20)
	d := blobstoretest.Digest(data)
	u := startUpload(t, s)
	appendAll(t, u, data)
	for range 2 {
		if err := u.Commit(t.Context(), d, pushed); !errors.Is(err, blobstore.ErrNotKept) {
			t.Errorf("Commit on a full disk = %v; want ErrNotKept", err)
		}
	}
	if _, err := s.Stat(d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Stat = %v; want ErrNotFound", err)
	}
	bad.off.Store(true)
	if err := u.Commit(t.Context(), d, pushed); err != nil {
		t.Fatalf("Commit with space again = %v; want nil", err)
	}
	wantBlob(t, s, d, data)
}

func TestAbandonedUploadsAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openDir(t, dir, func(c *blobstore.Config) { c.ScrubRate = 0 })
		abandoned, held := startUpload(t, s), startUpload(t, s)
		appendAll(t, abandoned, make([]byte, 1000))
		if err := abandoned.Close(); err != nil {
			t.Fatal(err)
		}
		stop := running(t, s)
		time.Sleep(23 * time.Hour)
		u := reopenUpload(t, s, abandoned.ID())
		_ = u.Close()
		time.Sleep(23 * time.Hour)
		if got := s.Usage().Uploads; got != 2 {
			t.Errorf("%d uploads within a day of their last use; want 2", got)
		}
		time.Sleep(2 * time.Hour)
		if got := s.Usage().Uploads; got != 1 {
			t.Errorf("%d uploads after a day; want the one that is held", got)
		}
		stop()
		if err := held.Cancel(); err != nil {
			t.Error(err)
		}
		wantNoUploads(t, s, dir)
	})
}

func TestAnAppendEndsWithItsContext(t *testing.T) {
	s := openStore(t, nil)
	u := startUpload(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	r := io.MultiReader(bytes.NewReader(make([]byte, 5000)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	}))
	if n, err := u.Append(ctx, r); !errors.Is(err, context.Canceled) || n != 5000 {
		t.Errorf("Append = %d, %v; want 5000, %v", n, err, context.Canceled)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzUploadState(f *testing.F) {
	s := openStore(f, nil)
	u := startUpload(f, s)
	appendAll(f, u, make([]byte, 1<<20+100))
	f.Add(blobstore.StateOfUpload(u))
	f.Add([]byte("pullonce upload 1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		again, err := blobstore.ParseUploadState(raw)
		if err != nil {
			return
		}
		if _, err := blobstore.ParseUploadState(again); err != nil {
			t.Errorf("what was written is refused: %v", err)
		}
	})
}
