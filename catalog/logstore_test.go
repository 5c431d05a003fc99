package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// smallLog is a store whose journal is full after a few batches.
func smallLog(t testing.TB, path string) *logStore {
	t.Helper()
	s, err := openLog(path, logOptions{journalBytes: 4 * journalBlock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func reopened(t testing.TB, s *logStore) *logStore {
	t.Helper()
	path := s.db.Path()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return smallLog(t, path)
}

// entries are those from low to high.
func entries(low, high uint64) []*raft.Log {
	var list []*raft.Log
	for i := low; i <= high; i++ {
		list = append(list, &raft.Log{Index: i, Term: i / 10, Data: fmt.Append(nil, "entry ", i), AppendedAt: start})
	}
	return list
}

func put(t testing.TB, s raft.LogStore, low, high uint64) {
	t.Helper()
	if err := s.StoreLogs(entries(low, high)); err != nil {
		t.Fatalf("StoreLogs(%d to %d): %v", low, high, err)
	}
}

func drop(t testing.TB, s raft.LogStore, low, high uint64) {
	t.Helper()
	if err := s.DeleteRange(low, high); err != nil {
		t.Fatalf("DeleteRange(%d, %d): %v", low, high, err)
	}
}

// has checks that exactly the entries from low to high are there.
func has(t testing.TB, s raft.LogStore, low, high uint64) {
	t.Helper()
	first, firstErr := s.FirstIndex()
	last, lastErr := s.LastIndex()
	if err := errors.Join(firstErr, lastErr); err != nil || first != low || last != high {
		t.Fatalf("the log goes from %d to %d, %v; want %d to %d", first, last, err, low, high)
	}
	for _, want := range entries(max(low, 1), high) {
		var got raft.Log
		err := s.GetLog(want.Index, &got)
		got.AppendedAt = got.AppendedAt.UTC()
		if err != nil || !reflect.DeepEqual(got, *want) {
			t.Fatalf("GetLog(%d) = %+v, %v; want %+v", want.Index, got, err, *want)
		}
	}
	for _, none := range []uint64{0, low - 1, high + 1, high + 1000} {
		if none >= low && none <= high && none > 0 {
			continue
		}
		if err := s.GetLog(none, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("GetLog(%d) = %v; want ErrLogNotFound", none, err)
		}
	}
}

// TestLogStores is what raft asks of a store; its own store in memory and ours must both keep to it.
func TestLogStores(t *testing.T) {
	type store interface {
		raft.LogStore
		raft.StableStore
	}
	kinds := map[string]func(t *testing.T) (store, func() store){
		"raft's in memory": func(*testing.T) (store, func() store) {
			s := raft.NewInmemStore()
			return s, func() store { return s }
		},
		"on disk": func(t *testing.T) (store, func() store) {
			s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
			return s, func() store { return s }
		},
		"on disk, opened anew at each step": func(t *testing.T) (store, func() store) {
			s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
			return s, func() store { s = reopened(t, s); return s }
		},
	}
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			s, again := open(t)
			has(t, s, 0, 0)
			put(t, s, 1, 3)
			s = again()
			has(t, s, 1, 3)
			if err := s.StoreLog(entries(4, 4)[0]); err != nil {
				t.Fatalf("StoreLog: %v", err)
			}
			for i := uint64(5); i <= 40; i += 4 {
				put(t, s, i, i+3)
				s = again()
				has(t, s, 1, i+3)
			}
			drop(t, s, 1, 10) // a snapshot was made
			s = again()
			has(t, s, 11, 40)
			drop(t, s, 39, 40) // another leader knows better
			s = again()
			has(t, s, 11, 38)
			put(t, s, 39, 200)
			s = again()
			has(t, s, 11, 200)
			drop(t, s, 11, 200) // a snapshot came from the leader
			s = again()
			has(t, s, 0, 0)
			put(t, s, 1000, 1001)
			s = again()
			has(t, s, 1000, 1001)
		})
		t.Run("stable "+name, func(t *testing.T) {
			s, again := open(t)
			if n, err := s.GetUint64([]byte("term")); n != 0 || err != nil && err.Error() != "not found" {
				t.Errorf("GetUint64 of nothing = %d, %v; want 0", n, err)
			}
			if v, err := s.Get([]byte("vote")); len(v) != 0 || err != nil && err.Error() != "not found" {
				t.Errorf("Get of nothing = %q, %v; want nothing", v, err)
			}
			for term := range uint64(3) {
				if err := errors.Join(s.SetUint64([]byte("term"), term), s.Set([]byte("vote"), []byte{byte(term), 7})); err != nil {
					t.Fatal(err)
				}
				s = again()
				n, numberErr := s.GetUint64([]byte("term"))
				v, err := s.Get([]byte("vote"))
				if n != term || !bytes.Equal(v, []byte{byte(term), 7}) || numberErr != nil || err != nil {
					t.Errorf("term %d and vote %v, %v, %v; want %d", n, v, numberErr, err, term)
				}
			}
		})
	}
}

func TestALogTakesNoGap(t *testing.T) {
	s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
	put(t, s, 5, 9)
	for _, wrong := range [][]*raft.Log{entries(9, 9), entries(11, 11), append(entries(10, 10), entries(12, 12)...), entries(0, 0)} {
		if err := s.StoreLogs(wrong); err == nil {
			t.Errorf("StoreLogs from %d after 9 was taken", wrong[0].Index)
		}
	}
	if err := s.DeleteRange(6, 7); err == nil {
		t.Error("DeleteRange(6, 7) of 5 to 9 was taken")
	}
	drop(t, s, 1, 4)
	drop(t, s, 10, 20)
	has(t, reopened(t, s), 5, 9)
}

func TestABatchLargerThanTheJournalIsStored(t *testing.T) {
	s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
	put(t, s, 1, 2)
	large := []*raft.Log{{Index: 3, Data: bytes.Repeat([]byte("x"), 1<<20)}}
	if err := s.StoreLogs(large); err != nil {
		t.Fatal(err)
	}
	s = reopened(t, s)
	var got raft.Log
	if err := s.GetLog(3, &got); err != nil || !bytes.Equal(got.Data, large[0].Data) {
		t.Errorf("GetLog(3) = %d bytes, %v", len(got.Data), err)
	}
	drop(t, s, 3, 3)
	has(t, s, 1, 2)
}

// crashed is a store in the state in which a crash leaves another: its files, the journal through damage.
func crashed(t *testing.T, s *logStore, damage func(journal []byte) []byte) (*logStore, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raft.db")
	for _, suffix := range []string{"", ".journal"} {
		raw, err := os.ReadFile(s.db.Path() + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if suffix != "" {
			raw = damage(raw)
		}
		if err := os.WriteFile(path+suffix, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other, err := openLog(path, logOptions{noSync: true})
	if err == nil {
		t.Cleanup(func() { _ = other.Close() })
	}
	return other, err
}

func TestARecordCutShortByACrashHarmsNoneBeforeIt(t *testing.T) {
	s, err := openLog(filepath.Join(t.TempDir(), "raft.db"), logOptions{journalBytes: 16 * journalBlock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, 1, 3)
	put(t, s, 4, 200) // several blocks
	begin := int(s.journal.offset)
	put(t, s, 201, 400)
	end := int(s.journal.offset)
	if end-begin < 3*journalBlock {
		t.Fatalf("the last record has %d bytes; the test wants several blocks", end-begin)
	}
	for cut := begin; cut < end; cut += 509 {
		// All before the cut was written; and, as disks keep to no order, all after it.
		for _, zeroed := range [][2]int{{cut, end}, {begin, max(begin+1, cut)}} {
			after, err := crashed(t, s, func(raw []byte) []byte {
				clear(raw[zeroed[0]:zeroed[1]])
				return raw
			})
			if err != nil {
				t.Fatalf("with bytes %v of the last record not written: %v", zeroed, err)
			}
			last, _ := after.LastIndex()
			if last == 400 { // what was not written was zero anyway
				has(t, after, 1, 400)
				continue
			}
			has(t, after, 1, 200)
			put(t, after, 201, 300)
			has(t, reopened(t, after), 1, 300)
		}
	}
}

func TestDamageBeforeAnAcknowledgedRecordIsToldAndNotPassedOver(t *testing.T) {
	s, err := openLog(filepath.Join(t.TempDir(), "raft.db"), logOptions{journalBytes: 16 * journalBlock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, 1, 3)
	at := s.journal.offset
	put(t, s, 4, 6)
	put(t, s, 7, 9)
	for _, off := range []int64{0, 8, 16, 24, 40} {
		_, err := crashed(t, s, func(raw []byte) []byte {
			raw[at+off] ^= 1
			return raw
		})
		if !errors.Is(err, errJournal) {
			t.Errorf("with a flipped bit at byte %d of a record: openLog = %v; want errJournal", off, err)
		}
	}
	if _, err := crashed(t, s, func(raw []byte) []byte { return raw[:len(raw)/2] }); !errors.Is(err, errJournal) {
		t.Errorf("with half a journal: openLog = %v; want errJournal", err)
	}
}

func TestEntriesThatWereTakenOverAreNotReadFromTheJournalAgain(t *testing.T) {
	s, err := openLog(filepath.Join(t.TempDir(), "raft.db"), logOptions{journalBytes: 16 * journalBlock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, 1, 3)
	put(t, s, 4, 6)
	drop(t, s, 5, 6) // the journal has them still
	after, err := crashed(t, s, func(raw []byte) []byte { return raw })
	if err != nil {
		t.Fatal(err)
	}
	has(t, after, 1, 4)
	put(t, after, 5, 5)
	has(t, reopened(t, after), 1, 5)
}

func TestALostJournalIsToldAndNotMadeAnew(t *testing.T) {
	s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
	put(t, s, 1, 3)
	path := s.db.Path()
	if err := errors.Join(s.Close(), os.Remove(path+".journal")); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(path, logOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("openLog without the journal = %v; want ErrNotExist", err)
	}
}

func TestAfterAFailedWriteNothingGoesToTheJournalBeforeBboltHasAll(t *testing.T) {
	s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
	put(t, s, 1, 3)
	file := s.journal.file
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	s.journal.file = closed // a disk that takes nothing
	if err := s.StoreLogs(entries(4, 6)); err == nil {
		t.Fatal("a write to a disk that takes nothing was acknowledged")
	}
	has(t, s, 1, 3)
	s.journal.file = file
	put(t, s, 4, 5)
	if s.journal.offset != 0 || s.journal.epoch != 2 {
		t.Errorf("the journal stands at %d in epoch %d; want a new epoch, 2", s.journal.offset, s.journal.epoch)
	}
	put(t, s, 6, 7)
	has(t, reopened(t, s), 1, 7)
}

func TestAFullDiskLosesNothing(t *testing.T) {
	s := smallLog(t, filepath.Join(t.TempDir(), "raft.db"))
	for i := uint64(1); i <= 4; i++ {
		put(t, s, i, i)
	}
	s.db.MaxSize = 1 // bbolt may not grow
	failed := false
	for i := uint64(5); i < 2000 && !failed; i++ {
		failed = s.StoreLogs([]*raft.Log{{Index: i, Data: make([]byte, 100_000)}}) != nil
	}
	if !failed {
		t.Fatal("bbolt took everything; the test wants it to be full")
	}
	last, _ := s.LastIndex()
	s = reopened(t, s)
	if again, _ := s.LastIndex(); again != last {
		t.Errorf("after the disk was full the log goes to %d; want %d", again, last)
	}
	if err := s.StoreLogs([]*raft.Log{{Index: last + 1, Data: make([]byte, 100_000)}}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
