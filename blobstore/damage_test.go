package blobstore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
)

// The index is damaged under a node that runs: it goes on, makes the index anew, and loses no blob.
func TestAnIndexDamagedWhileTheNodeRunsEndsNothing(t *testing.T) {
	for _, name := range []string{"CutToNothing", "CutToHalf", "GarbageInside", "Lost"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var all [][]byte
			synctest.Test(t, func(t *testing.T) {
				s := openDir(t, dir, func(c *blobstore.Config) { c.ScrubRate = 0 })
				stop := running(t, s)
				commit := func() {
					for range 20 {
						all = append(all, blobstoretest.Data(uint64(len(all)), 100*len(all)+1))
						blobstoretest.Commit(t, s, all[len(all)-1])
						if err := s.PutRecord("tag", lastHex(all), make([]byte, 3000), time.Time{}); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(5 * time.Second)
				}
				commit()
				damages()[name](t, filepath.Join(dir, "index.db"))
				for range 3 {
					for k := range all {
						_, _, _ = s.Record("tag", lastHex(all[:k+1])) // may be gone, must not end the process
					}
					commit()
				}
				time.Sleep(time.Minute)
				stop()
				if alarm := s.Usage().Alarm; alarm != "" {
					t.Errorf("alarm a minute later = %q; want none", alarm)
				}
				if err := s.Close(); err != nil {
					t.Errorf("Close() = %v; want nil", err)
				}
			})
			s := openDir(t, dir, nil)
			for k, data := range all {
				if got, err := blobstoretest.Read(t, s, blobstoretest.Digest(data)); err != nil || !bytes.Equal(got, data) {
					t.Errorf("blob %d: %d bytes, %v; want it whole", k, len(got), err)
				}
			}
		})
	}
}

func lastHex(all [][]byte) string { return blobstoretest.Digest(all[len(all)-1]).Hex() }

func TestAnOpenStoreSurvivesThatItsFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	data := blobstoretest.Data(1, 3*blobstoretest.PieceSize)
	blobstoretest.Commit(t, s, data)
	for _, name := range []string{"blobs", "partial"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Open(blobstoretest.Digest(data)); err == nil {
		t.Error("Open of a removed file = nil; want an error")
	}
	if err := pull(t.Context(), s, t, data); err != nil {
		t.Errorf("pull after the directories were removed = %v; want nil", err)
	}
}
