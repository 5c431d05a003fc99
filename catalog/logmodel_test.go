package catalog

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// TestALogIsWhatWasStoredInIt does what raft may do, in any order and with crashes between.
func TestALogIsWhatWasStoredInIt(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		options := logOptions{noSync: true, journalBytes: int64(1+rng.IntN(6)) * journalBlock}
		path := filepath.Join(t.TempDir(), "raft.db")
		s, err := openLog(path, options)
		if err != nil {
			t.Fatal(err)
		}
		var first, last uint64 // 0 while it is empty
		for range 60 {
			switch op := rng.IntN(10); {
			case op < 6:
				low := last + 1
				if last == 0 {
					low = 1 + rng.Uint64N(1000)
					first = low
				}
				last = low + rng.Uint64N(40)
				put(t, s, low, last)
			case op < 7 && last > 0: // compaction
				high := first + rng.Uint64N(last-first+1)
				drop(t, s, first-rng.Uint64N(first), high)
				first = high + 1
			case op < 8 && last > 0: // another leader
				low := first + rng.Uint64N(last-first+1)
				drop(t, s, low, last+rng.Uint64N(3))
				last = low - 1
			default:
				was := s
				if s, err = crashed(t, was, func(raw []byte) []byte { return raw }); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				_ = was.Close()
			}
			if first > last || last == 0 {
				first, last = 0, 0
			}
			has(t, s, first, last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
