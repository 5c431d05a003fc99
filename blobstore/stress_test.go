package blobstore_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

// Many do everything at once to few blobs in a store that is always too small. No read may be wrong, and what is read
// to the end must be right.
func TestEverythingAtOnceInATinyStore(t *testing.T) {
	span := 3 * time.Second
	if testing.Short() {
		span = time.Second
	}
	s := openStore(t, func(c *blobstore.Config) {
		c.MaxBytes, c.SyncInterval, c.ScrubRate = 3*mebi, 5*time.Millisecond, 100*mebi
		c.MemoryWindow, c.MemoryStall = 4*blobstoretest.PieceSize, 20*time.Millisecond
	})
	stop := running(t, s)
	var blobs [][]byte
	for k := range uint64(12) {
		blobs = append(blobs, blobstoretest.Data(k, int(k)*80_000+1))
	}
	begin := time.Now()
	var all sync.WaitGroup
	for k := range uint64(8) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(k, 1))
			for time.Since(begin) < span && !t.Failed() {
				data := blobs[r.IntN(len(blobs))]
				if err := disturb(t, s, data, r); err != nil {
					t.Errorf("worker %d: %v", k, err)
				}
			}
		})
	}
	all.Wait()
	stop()
	if u := s.Usage(); u.Bytes > 3*mebi || u.InMemory != 0 || s.Stats().Rotten != 0 {
		t.Errorf("at the end: %+v, %+v; want the budget kept, nothing in memory, nothing rotten", u, s.Stats())
	}
}

// disturb does one thing to one blob. What other workers may have caused is no error.
func disturb(t *testing.T, s *blobstore.Store, data []byte, r *rand.Rand) error {
	d := blobstoretest.Digest(data)
	allowed := func(err error, may ...error) error {
		for _, m := range may {
			if errors.Is(err, m) {
				return nil
			}
		}
		return err
	}
	switch r.IntN(10) {
	case 0:
		return s.Delete(d)
	case 1:
		return allowed(s.Link(nginx, d), oci.ErrNotFound)
	case 2:
		return allowed(s.Put(t.Context(), d, data, blobstore.Origin{Repository: nginx}), blobstore.ErrNotKept, oci.ErrNotFound)
	case 3:
		return s.PutRecord("tag", d.Hex(), data[:1], time.Time{})
	case 4:
		p, err := s.FindPartial(d)
		if err != nil {
			return allowed(err, oci.ErrNotFound)
		}
		defer p.Close()
		if r.IntN(2) == 0 {
			p.Drop()
		}
		return nil
	case 5, 6, 7:
		return allowed(pull(t.Context(), s, t, data), blobstore.ErrWhole, blobstore.ErrOtherList, blobstore.ErrDropped,
			blobstore.ErrIncomplete)
	default:
		got, err := blobstoretest.Read(t, s, d)
		if err == nil && !bytes.Equal(got, data) {
			return errors.New("a whole blob was read wrong")
		}
		return allowed(err, oci.ErrNotFound)
	}
}

func TestAReadOnlyFileSystemServesWhatItHasAndStreamsTheRest(t *testing.T) {
	dir := mountSmall(t)
	kept := blobstoretest.Data(1, mebi)
	s := openDir(t, dir, nil)
	blobstoretest.Commit(t, s, kept)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, func(c *blobstore.Config) { c.MemoryWindow = 4 * blobstoretest.PieceSize })
	if got, err := blobstoretest.Read(t, s, blobstoretest.Digest(kept)); err != nil || !bytes.Equal(got, kept) {
		t.Errorf("read from a read-only disk: %d bytes, %v; want all", len(got), err)
	}
	if err := pull(t.Context(), s, t, blobstoretest.Data(2, mebi)); err != nil {
		t.Errorf("pull through a read-only disk = %v; want nil", err)
	}
	if err := s.Link(oci.Repository{Upstream: "ghcr.io", Path: "org/app"}, blobstoretest.Digest(kept)); err != nil {
		t.Errorf("Link on a read-only disk = %v; want nil", err)
	}
	if alarm := s.Usage().Alarm; alarm == "" {
		t.Error("no alarm; want one")
	}
	if err := s.PutRecord("tag", "x", []byte("y"), time.Time{}); err != nil {
		t.Errorf("PutRecord on a read-only disk = %v; want nil", err)
	}
	if got, _, err := s.Record("tag", "x"); err != nil || string(got) != "y" {
		t.Errorf("Record = %q, %v; want it from memory", got, err)
	}
}
