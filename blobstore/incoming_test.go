package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

// portions gives data in messages of n bytes, each in parts of 16 KiB, and counts those that were freed.
func portions(data []byte, n int, freed *atomic.Int64) func(context.Context) (blobstore.Portion, error) {
	return func(context.Context) (blobstore.Portion, error) {
		if len(data) == 0 {
			return blobstore.Portion{}, io.EOF
		}
		message := data[:min(n, len(data))]
		data = data[len(message):]
		return blobstore.Portion{Parts: slices.Collect(slices.Chunk(message, 16<<10)), Free: func() { freed.Add(1) }}, nil
	}
}

func TestABlobThatAPeerSendsBecomesWhole(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxUploads, c.MaxUpload = 1, 1000 })
	startUpload(t, s) // takes the only place for clients
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		for _, size := range []int{0, 1, mebi, 5*mebi + 3, 41*mebi + 3} {
			data := blobstoretest.Data(uint64(size), size)
			d := oci.FromBytes(algorithm, data)
			u, err := s.StartIncoming(algorithm, int64(size))
			if err != nil {
				t.Fatal(err)
			}
			var freed atomic.Int64
			if err := u.AppendPortions(t.Context(), portions(data, mebi, &freed)); err != nil {
				t.Fatal(err)
			}
			if want := (size + mebi - 1) / mebi; int(freed.Load()) != want {
				t.Errorf("%d portions freed; want %d", freed.Load(), want)
			}
			if err := u.Commit(t.Context(), d, blobstore.Origin{Hosted: true, Note: []byte("n")}); err != nil {
				t.Fatalf("Commit = %v; want nil", err)
			}
			got, err := blobstoretest.Read(t, s, d)
			if info, statErr := s.Stat(d); err != nil || !bytes.Equal(got, data) || statErr != nil || !info.Hosted || string(s.Note(d)) != "n" {
				t.Errorf("read %d bytes of %s, %v; %+v, %v", len(got), d, err, info, statErr)
			}
		}
	}
	if use := s.Usage(); use.Uploads != 1 {
		t.Errorf("%d uploads; want the client's alone", use.Uploads)
	}
}

func TestWhatAPeerSendsWrongOrNotToItsEndLeavesNothing(t *testing.T) {
	s := openStore(t, nil)
	data := blobstoretest.Data(1, 2*mebi)
	for _, end := range []func(*blobstore.Upload) error{
		func(u *blobstore.Upload) error {
			err := u.Commit(t.Context(), blobstoretest.Digest(data[1:]), pushed)
			if _, ok := errors.AsType[*oci.MismatchError](err); !ok {
				t.Errorf("Commit of other bytes = %v; want a mismatch", err)
			}
			return u.Close()
		},
		(*blobstore.Upload).Close,
		(*blobstore.Upload).Cancel,
	} {
		u, err := s.StartIncoming(oci.SHA256, -1)
		if err != nil {
			t.Fatal(err)
		}
		var freed atomic.Int64
		if err := u.AppendPortions(t.Context(), portions(data, mebi, &freed)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Upload(u.ID()); err == nil {
			t.Error("a client can go on with what a peer sends")
		}
		if err := end(u); err != nil {
			t.Error(err)
		}
	}
	if use := s.Usage(); use.Blobs != 0 || use.UploadBytes != 0 {
		t.Errorf("%d blobs, %d bytes of uploads; want none", use.Blobs, use.UploadBytes)
	}
}

func TestAFullDiskRefusesWhatAPeerSends(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxHosted = 3 * mebi })
	if _, err := s.StartIncoming(oci.SHA256, 4*mebi); !errors.Is(err, blobstore.ErrNotKept) {
		t.Errorf("StartIncoming of more than there is room for = %v; want ErrNotKept", err)
	}
	u, err := s.StartIncoming(oci.SHA256, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	var freed atomic.Int64
	if err := u.AppendPortions(t.Context(), portions(make([]byte, 4*mebi), mebi, &freed)); !errors.Is(err, blobstore.ErrNotKept) || freed.Load() != 4 {
		t.Errorf("AppendPortions = %v, %d freed; want ErrNotKept, all of four", err, freed.Load())
	}

	bad := &fault{err: syscall.EIO, ops: "sync", only: ".data"}
	s = openFaulty(t, bad, nil)
	if u, err = s.StartIncoming(oci.SHA256, -1); err != nil {
		t.Fatal(err)
	}
	data := blobstoretest.Data(1, mebi)
	if err := u.AppendPortions(t.Context(), portions(data, mebi, &freed)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the kernel says it once
		if err := u.Commit(t.Context(), blobstoretest.Digest(data), pushed); err == nil || has(s, data) {
			t.Errorf("Commit that cannot be synced = %v, blob here: %v", err, has(s, data))
		}
		bad.off.Store(true)
	}
	_ = u.Close()
}

func TestARestartCleansWhatAPeerWasSending(t *testing.T) {
	dir := t.TempDir()
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.StartIncoming(oci.SHA256, -1)
	if err != nil {
		t.Fatal(err)
	}
	var freed atomic.Int64
	if err := u.AppendPortions(t.Context(), portions(blobstoretest.Data(1, mebi), mebi, &freed)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, nil)
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	if err != nil || len(left) != 0 || s.Usage().UploadBytes != 0 {
		t.Errorf("left after a restart: %v, %v, %d bytes; want nothing", left, err, s.Usage().UploadBytes)
	}
}
