package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

// readAll reads what a follower gives until it ends.
func readAll(ctx context.Context, f *blobstore.Follower) ([]byte, error) {
	var all []byte
	buf := make([]byte, 100_000)
	for {
		n, err := f.Read(ctx, buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func TestAFollowerReadsAnUploadWhileItGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, nil)
		u := startUpload(t, s)
		data := blobstoretest.Data(1, 3*mebi+17)
		f, err := s.FollowUpload(u.ID())
		if err != nil {
			t.Fatal(err)
		}
		if f.Algorithm() != oci.SHA256 {
			t.Errorf("Algorithm = %q; want sha256", f.Algorithm())
		}
		var got []byte
		var readErr error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, readErr = readAll(t.Context(), f)
		}()
		for part := range slices.Chunk(data, mebi) {
			appendAll(t, u, part)
			synctest.Wait()
		}
		if err := u.Commit(t.Context(), blobstoretest.Digest(data), pushed); err != nil {
			t.Fatal(err)
		}
		<-done
		if readErr != nil || !bytes.Equal(got, data) || f.Digest() != blobstoretest.Digest(data) {
			t.Errorf("read %d bytes of %s, %v; want %d of %s", len(got), f.Digest(), readErr, len(data), blobstoretest.Digest(data))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.FollowUpload(u.ID()); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("FollowUpload after the commit = %v; want ErrNotFound", err)
		}
	})
}

func TestAFollowerThatIsLateReadsToTheEnd(t *testing.T) {
	s := openStore(t, nil)
	u := startUpload(t, s)
	data := blobstoretest.Data(1, mebi)
	f, err := s.FollowUpload(u.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	appendAll(t, u, data)
	if err := u.Commit(t.Context(), blobstoretest.Digest(data), pushed); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v; want all", len(got), err)
	}
}

func TestFollowingEndsWithTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, nil)
		u := startUpload(t, s)
		f, err := s.FollowUpload(u.ID())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.Read(ctx, make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("Read of nothing = %v; want Canceled", err)
		}
		ended := make(chan error)
		go func() {
			_, err := f.Read(t.Context(), make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		if err := u.Cancel(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, blobstore.ErrDropped) {
			t.Errorf("Read of a cancelled upload = %v; want ErrDropped", err)
		}
	})
}

func TestAFollowerDoesNotOutrunAnUploadThatGoesBack(t *testing.T) {
	bad := &fault{err: errors.New("bad"), ops: "sync", only: ".data"}
	bad.off.Store(true)
	s := openFaulty(t, bad, nil)
	u := startUpload(t, s)
	appendAll(t, u, blobstoretest.Data(1, 1000))
	f, err := s.FollowUpload(u.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	hold := &held{data: blobstoretest.Data(2, 700_000), seen: make(chan struct{})}
	go func() {
		defer close(hold.seen)
		buf := make([]byte, mebi)
		for n := 0; n < 1000+512<<10; {
			k, err := f.Read(t.Context(), buf)
			if err != nil {
				t.Error(err)
				return
			}
			n += k
		}
	}()
	bad.off.Store(false)
	if _, err := u.Append(t.Context(), hold); !errors.Is(err, blobstore.ErrNotKept) || u.Offset() != 1000 {
		t.Fatalf("Append = %v at %d; want ErrNotKept at 1000", err, u.Offset())
	}
	if _, err := f.Read(t.Context(), make([]byte, 1)); !errors.Is(err, blobstore.ErrDropped) {
		t.Errorf("Read ahead of the upload = %v; want ErrDropped", err)
	}
}

// held gives its data and its end only when seen is closed.
type held struct {
	data []byte
	seen chan struct{}
}

func (h *held) Read(buf []byte) (int, error) {
	if len(h.data) == 0 {
		<-h.seen
		return 0, io.EOF
	}
	n := copy(buf, h.data)
	h.data = h.data[n:]
	return n, nil
}
