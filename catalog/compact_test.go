package catalog

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestALongLogIsCutQuicklyAndStoresMeanwhile(t *testing.T) {
	const entries, trailing = 60_000, 5_000
	s, err := openLog(filepath.Join(t.TempDir(), "raft.db"), logOptions{journalBytes: 1 << 20, noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	data := bytes.Repeat([]byte("x"), 300)
	store := func(from, n uint64) {
		batch := make([]*raft.Log, n)
		for i := range batch {
			batch[i] = &raft.Log{Index: from + uint64(i), Term: 1, Data: data}
		}
		if err := s.StoreLogs(batch); err != nil {
			t.Error(err)
		}
	}
	for i := uint64(1); i < entries; i += 100 {
		store(i, 100)
	}
	began, cut := time.Now(), make(chan time.Duration)
	go func() {
		if err := s.DeleteRange(1, entries-trailing); err != nil {
			t.Error(err)
		}
		cut <- time.Since(began)
	}()
	var slowest time.Duration
	for next := uint64(entries + 1); ; next++ {
		at := time.Now()
		store(next, 1)
		slowest = max(slowest, time.Since(at))
		select {
		case took := <-cut:
			t.Logf("cut in %v, slowest store meanwhile %v", took, slowest)
			if took > 5*time.Second { // it was minutes
				t.Errorf("%d entries were deleted in %v; want far less than 5 s", entries-trailing, took)
			}
			first, _ := s.FirstIndex()
			if last, _ := s.LastIndex(); first != entries-trailing+1 || last != next {
				t.Errorf("the log has %d to %d; want %d to %d", first, last, entries-trailing+1, next)
			}
			var l raft.Log
			if err := s.GetLog(first, &l); err != nil || !bytes.Equal(l.Data, data) {
				t.Errorf("GetLog(%d) = %v", first, err)
			}
			if err := s.GetLog(first-1, &l); err == nil {
				t.Errorf("GetLog(%d) = nil; want an error", first-1)
			}
			return
		default:
		}
	}
}
