package catalog

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

func TestEntriesAfterASnapshotsGapTakeThePlaceOfOlderOnes(t *testing.T) {
	store, err := openLog(filepath.Join(testDir(t), "raft.db"), logOptions{noSync: true, journalBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := raftStore{logStore: store}
	if raft.MonotonicLogStore(s).IsMonotonic() {
		t.Error("IsMonotonic() = true; want false: raft would drop acknowledged entries")
	}
	for _, index := range []uint64{1, 2, 3, 10, 11} {
		if err := s.StoreLog(&raft.Log{Index: index, Term: 1}); err != nil {
			t.Fatalf("StoreLog(%d) = %v", index, err)
		}
	}
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != 10 || last != 11 {
		t.Errorf("log of %d to %d; want 10 to 11", first, last)
	}
}
