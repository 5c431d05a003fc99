package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func TestABlobThatIsCachedBecomesHosted(t *testing.T) {
	bad := &fault{err: syscall.ENOSPC, ops: "create", only: ".meta"}
	bad.off.Store(true)
	s := openFaulty(t, bad, nil)
	data := blobstoretest.Data(9, 100_000)
	d := blobstoretest.Digest(data)
	if err := s.Put(t.Context(), d, data, blobstore.Origin{Repository: nginx}); err != nil {
		t.Fatal(err)
	}
	u := startUpload(t, s)
	appendAll(t, u, data)
	bad.off.Store(false)
	if err := u.Commit(t.Context(), d, pushed); !errors.Is(err, blobstore.ErrNotKept) {
		t.Errorf("Commit that cannot be marked = %v; want ErrNotKept", err)
	}
	bad.off.Store(true)
	if err := u.Commit(t.Context(), d, pushed); err != nil {
		t.Errorf("Commit = %v; want nil", err)
	}
	if info, err := s.Stat(d); err != nil || !info.Hosted || !s.Linked(nginx, d) || !s.Linked(team, d) {
		t.Errorf("Stat = %+v, %v; want it hosted, with both links", info, err)
	}
}

func TestHostedBlobsAreNeverEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, func(c *blobstore.Config) { c.MaxBytes, c.MaxHosted, c.ScrubRate = 6*mebi, 10*mebi, 0 })
		hosted := blobstoretest.Data(0, 4*mebi)
		u := startUpload(t, s)
		appendAll(t, u, hosted)
		if err := u.Commit(t.Context(), blobstoretest.Digest(hosted), pushed); err != nil {
			t.Fatal(err)
		}
		stop := running(t, s)
		for k := range uint64(20) {
			time.Sleep(2 * time.Minute)
			blobstoretest.Commit(t, s, blobstoretest.Data(k+1, mebi))
		}
		time.Sleep(30 * time.Second)
		if use := s.Usage(); !has(s, hosted) || use.Bytes-use.HostedBytes > 6*mebi || use.HostedBytes != 4*mebi {
			t.Errorf("hosted blob kept: %v, usage %+v; want it kept, and the others within their budget", has(s, hosted), use)
		}
		big := startUpload(t, s)
		before := s.Usage().Blobs
		if _, err := big.Append(t.Context(), bytes.NewReader(make([]byte, 7*mebi))); !errors.Is(err, blobstore.ErrNotKept) {
			t.Errorf("Append of more than there is room for = %v; want ErrNotKept", err)
		}
		if after := s.Usage().Blobs; !has(s, hosted) || after != before {
			t.Errorf("an upload took the room of a hosted blob, or %d cached ones", before-after)
		}
		if err := s.SetHosted(blobstoretest.Digest(hosted), false); err != nil {
			t.Errorf("SetHosted = %v; want nil", err)
		}
		appendAll(t, big, make([]byte, mebi))
		time.Sleep(time.Hour)
		stop()
		if has(s, hosted) {
			t.Error("a blob that is not hosted any more was not evicted")
		}
	})
}

// TestABlobThatBecomesHostedWhileOwnersAreAskedStays is of a peer that offers a blob, and is told that it is kept, after
// eviction has chosen it.
func TestABlobThatBecomesHostedWhileOwnersAreAskedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chosen := blobstoretest.Data(0, mebi)
		var s *blobstore.Store
		s = openStore(t, func(c *blobstore.Config) {
			c.MaxBytes, c.ScrubRate = 10*mebi, 0
			c.MayDrop = func(_ context.Context, ask []oci.Digest) []oci.Digest {
				if err := s.SetHosted(blobstoretest.Digest(chosen), true); err != nil {
					t.Errorf("SetHosted = %v; want nil", err)
				}
				return ask
			}
		})
		for k := range uint64(10) {
			blobstoretest.Commit(t, s, blobstoretest.Data(k, mebi))
			time.Sleep(2 * time.Minute)
		}
		stop := running(t, s)
		time.Sleep(time.Minute)
		stop()
		if !has(s, chosen) || s.Usage().Blobs == 10 {
			t.Errorf("hosted blob kept: %v, %d blobs; want it kept and others gone", has(s, chosen), s.Usage().Blobs)
		}
	})
}

func TestTheMarkOfAHostedBlobSurvives(t *testing.T) {
	dir := t.TempDir()
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	data := blobstoretest.Data(1, 100_000)
	d := blobstoretest.Digest(data)
	if err := s.Put(t.Context(), d, data, blobstore.Origin{Repository: nginx}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), d, data, pushed); err != nil {
		t.Fatalf("Put of what is cached as hosted = %v; want nil", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "index.db")); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, nil)
	if info, err := s.Stat(d); err != nil || !info.Hosted || !s.Linked(team, d) || !s.Linked(nginx, d) {
		t.Errorf("Stat without the index = %+v, %v; want it hosted, with its links", info, err)
	}
	if err := s.SetHosted(blobstoretest.Digest([]byte("none")), true); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("SetHosted of a blob that is not here = %v; want ErrNotFound", err)
	}
}
