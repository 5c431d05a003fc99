package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftbench "github.com/hashicorp/raft/bench"
)

func benchLog(b *testing.B) *logStore {
	s, err := openLog(filepath.Join(b.TempDir(), "raft.db"), logOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkStoreLogs compares a batch with the one sync that it cannot do without.
func BenchmarkStoreLogs(b *testing.B) {
	b.Run("fdatasync of one block", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "block"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		block := make([]byte, journalBlock)
		for b.Loop() {
			if _, err := f.WriteAt(block, 0); err != nil {
				b.Fatal(err)
			}
			if err := syncData(f); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := benchLog(b)
			list := make([]*raft.Log, batch)
			next := uint64(1)
			data := make([]byte, 200)
			for b.Loop() {
				for i := range list {
					list[i] = &raft.Log{Index: next, Term: 1, Data: data}
					next++
				}
				if err := s.StoreLogs(list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRaft are raft's own benchmarks that keep to a log without gaps.
func BenchmarkRaft(b *testing.B) {
	b.Run("GetLog", func(b *testing.B) { raftbench.GetLog(b, benchLog(b)) })
	b.Run("FirstIndex", func(b *testing.B) { raftbench.FirstIndex(b, benchLog(b)) })
	b.Run("Set", func(b *testing.B) { raftbench.Set(b, benchLog(b)) })
	b.Run("GetUint64", func(b *testing.B) { raftbench.GetUint64(b, benchLog(b)) })
}
