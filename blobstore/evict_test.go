package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

const mebi = 1 << 20

// running has s work in the background until the returned function has stopped it.
func running(t *testing.T, s *blobstore.Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v; want %v", err, context.Canceled)
		}
	}
}

func has(s *blobstore.Store, data []byte) bool {
	_, err := s.Stat(blobstoretest.Digest(data))
	return err == nil
}

func TestTheLeastRecentlyUsedGoFirstDownToTheLowMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, func(c *blobstore.Config) { c.MaxBytes, c.ScrubRate = 10*mebi, 0 })
		var all [][]byte
		for k := range 9 {
			all = append(all, blobstoretest.Data(uint64(k), mebi))
			blobstoretest.Commit(t, s, all[k])
			time.Sleep(2 * time.Minute)
		}
		if b, err := s.Open(blobstoretest.Digest(all[0])); err != nil {
			t.Fatal(err)
		} else {
			_ = b.Close()
		}
		stop := running(t, s)
		time.Sleep(30 * time.Second)
		if got := s.Usage().Blobs; got != 9 {
			t.Errorf("below the high mark: %d blobs; want 9", got)
		}
		all = append(all, blobstoretest.Data(9, mebi))
		blobstoretest.Commit(t, s, all[9])
		time.Sleep(30 * time.Second)
		stop()
		if u := s.Usage(); u.Bytes > 8.5*mebi || u.Blobs != 8 {
			t.Errorf("above the high mark: %d blobs, %d bytes; want 8, at the low mark", u.Blobs, u.Bytes)
		}
		if has(s, all[1]) || has(s, all[2]) || !has(s, all[0]) || !has(s, all[9]) {
			t.Error("evicted something else than the two that were not used for longest")
		}
	})
}

func TestWhatOwnersRefuseStaysWhileThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		precious := blobstoretest.Data(0, mebi)
		var asked atomic.Int64
		s := openStore(t, func(c *blobstore.Config) {
			c.MaxBytes, c.ScrubRate = 10*mebi, 0
			c.MayDrop = func(_ context.Context, ask []oci.Digest) []oci.Digest {
				asked.Add(1)
				var may []oci.Digest
				for _, d := range ask {
					if d != blobstoretest.Digest(precious) {
						may = append(may, d)
					}
				}
				return may
			}
		})
		blobstoretest.Commit(t, s, precious)
		for k := range uint64(9) {
			time.Sleep(2 * time.Minute)
			blobstoretest.Commit(t, s, blobstoretest.Data(k+1, mebi))
		}
		stop := running(t, s)
		time.Sleep(30 * time.Second)
		stop()
		if !has(s, precious) || s.Usage().Blobs != 8 || asked.Load() != 1 {
			t.Errorf("oldest kept %v, %d blobs, asked %d times; want it kept, 8, one batch", has(s, precious), s.Usage().Blobs, asked.Load())
		}
	})
}

func TestANewBlobMakesItsRoomAtOnce(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxBytes = 4 * mebi })
	for k := range uint64(12) {
		data := blobstoretest.Data(k, mebi)
		blobstoretest.Commit(t, s, data)
		if !has(s, data) {
			t.Errorf("blob %d is not kept", k)
		}
		if got := s.Usage().Bytes; got > 4*mebi {
			t.Errorf("%d bytes kept; want at most %d", got, 4*mebi)
		}
	}
	if got := s.Stats(); got.Evicted != 8 || got.MemoryOnly != 0 {
		t.Errorf("Stats = %+v; want 8 evicted, none in memory", got)
	}
}

func TestEvictionBreaksNoOpenReader(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MaxBytes = 2 * mebi })
	data := blobstoretest.Data(1, mebi)
	blobstoretest.Commit(t, s, data)
	b, err := s.Open(blobstoretest.Digest(data))
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
	if err := r.WriteRange(t.Context(), &got, 0, 1000); err != nil {
		t.Fatal(err)
	}
	for k := range uint64(4) {
		blobstoretest.Commit(t, s, blobstoretest.Data(k+2, mebi))
	}
	if has(s, data) {
		t.Fatal("the blob was not evicted")
	}
	late, err := b.NewReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	if err := r.WriteRange(t.Context(), &got, 1000, mebi-1000); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("reader across eviction: %d bytes, %v; want all", got.Len(), err)
	}
	got.Reset()
	if err := late.WriteRange(t.Context(), &got, 0, mebi); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("reader begun after eviction: %d bytes, %v; want all", got.Len(), err)
	}
}

func TestFreeSpaceIsLeftToOthers(t *testing.T) {
	s := openStore(t, func(c *blobstore.Config) { c.MinFreeBytes = 1 << 60 })
	data := blobstoretest.Data(1, mebi)
	p, err := s.OpenPartial(blobstoretest.List(t, data))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if inMemory, _ := p.InMemory(); !inMemory || s.Usage().Alarm == "" {
		t.Errorf("in memory %v, alarm %q; want memory and an alarm", inMemory, s.Usage().Alarm)
	}
}

func TestPartialsThatNobodyUsesAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, func(c *blobstore.Config) { c.ScrubRate = 0 })
		data := blobstoretest.Data(1, mebi)
		l := blobstoretest.List(t, data)
		p, err := s.OpenPartial(l)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WritePiece(0, blobstoretest.Piece(l, data, 0)); err != nil {
			t.Fatal(err)
		}
		stop := running(t, s)
		time.Sleep(25 * time.Hour)
		if s.Usage().Partials != 1 {
			t.Error("an open partial blob was let go")
		}
		p.Close()
		time.Sleep(23 * time.Hour)
		if s.Usage().Partials != 1 {
			t.Error("a partial blob was let go before its time")
		}
		time.Sleep(2 * time.Hour)
		stop()
		if u := s.Usage(); u.Partials != 0 || u.PartialBytes != 0 {
			t.Errorf("after a day: %+v; want no partial blob", u)
		}
	})
}

func TestABlobCountsAsUncheckedAfterTheScrubIntervalAndTheScrubChecksIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, func(c *blobstore.Config) { c.ScrubInterval, c.ScrubRate = 24*time.Hour, mebi })
		data := blobstoretest.Data(1, mebi)
		blobstoretest.Commit(t, s, data)
		checked := func() bool {
			info, err := s.Stat(blobstoretest.Digest(data))
			return err == nil && info.Checked
		}
		if !checked() {
			t.Error("a blob just committed counts as unchecked")
		}
		time.Sleep(25 * time.Hour)
		if checked() {
			t.Error("a blob counts as checked after the scrub interval")
		}
		stop := running(t, s)
		time.Sleep(time.Hour)
		stop()
		if !checked() || s.Stats().Scrubbed != mebi {
			t.Errorf("checked %v, %d bytes scrubbed; want the blob scrubbed once", checked(), s.Stats().Scrubbed)
		}
	})
}

func TestLastUseIsPutDownInBatches(t *testing.T) {
	dir := t.TempDir()
	var want time.Time
	synctest.Test(t, func(t *testing.T) {
		s := openDir(t, dir, func(c *blobstore.Config) { c.ScrubRate = 0 })
		data := blobstoretest.Data(1, 1000)
		blobstoretest.Commit(t, s, data)
		stop := running(t, s)
		time.Sleep(time.Hour)
		for range 100 {
			if _, err := blobstoretest.Read(t, s, blobstoretest.Digest(data)); err != nil {
				t.Fatal(err)
			}
		}
		want = time.Now()
		time.Sleep(5 * time.Minute)
		stop()
		crashed := crash(t, dir, nil)
		info, err := crashed.Stat(blobstoretest.Digest(data))
		if err != nil || info.LastUse.Sub(want).Abs() > time.Minute {
			t.Errorf("last use after a kill = %v, %v; want %v", info.LastUse, err, want)
		}
	})
}
