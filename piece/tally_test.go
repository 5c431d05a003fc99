package piece_test

import (
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

func TestATallyHasTheListThatAHasherWouldHaveMade(t *testing.T) {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 3 << 20, 3<<20 + 77} {
			data := randomBytes(size)
			tally := piece.NewTally(algorithm)
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 300_001)
				_, _ = tally.Write(rest[:n])
				rest = rest[n:]
				raw, err := tally.MarshalBinary() // go on from what would be on disk
				if err != nil {
					t.Fatal(err)
				}
				if tally, err = piece.UnmarshalTally(raw); err != nil {
					t.Fatalf("UnmarshalTally after %d of %d bytes = %v; want nil", size-len(rest), size, err)
				}
			}
			l, err := tally.List("n1")
			if err != nil || l.Known() != l.Count() || l.Digest() != oci.FromBytes(algorithm, data) || l.Size() != int64(size) {
				t.Fatalf("List of %d bytes = %v, %v; want a complete one", size, l, err)
			}
			for i := range l.Count() {
				if err := l.Check(i, part(l, data, i)); err != nil {
					t.Errorf("%s, %d bytes: Check(%d) = %v; want nil", algorithm, size, i, err)
				}
			}
		}
	}
}

func TestATallyMakesLargerPiecesOfSmallerOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("hashes 4 GiB")
	}
	block := randomBytes(8 << 20)
	tally := piece.NewTally(oci.SHA256)
	for tally.Size() <= 4<<30 {
		_, _ = tally.Write(block)
	}
	_, _ = tally.Write(block[:5])
	l, err := tally.List("n1")
	if err != nil || l.PieceSize() != 2<<20 {
		t.Fatalf("List of more than 4 GiB = pieces of %d, %v; want 2 MiB", l.PieceSize(), err)
	}
	for _, i := range []int{0, 1, 2, 3, l.Count() - 2, l.Count() - 1} {
		off, n := l.Bounds(i)
		at := off % int64(len(block))
		if err := l.Check(i, block[at:at+n]); err != nil {
			t.Errorf("Check(%d) = %v; want nil", i, err)
		}
	}
}

func FuzzTally(f *testing.F) {
	tally := piece.NewTally(oci.SHA256)
	_, _ = tally.Write(randomBytes(1<<20 + 5))
	raw, _ := tally.MarshalBinary()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		tally, err := piece.UnmarshalTally(raw)
		if err != nil {
			return
		}
		again, err := tally.MarshalBinary()
		if err != nil {
			t.Fatalf("MarshalBinary = %v; want nil", err)
		}
		if _, err := piece.UnmarshalTally(again); err != nil {
			t.Errorf("what was written is refused: %v", err)
		}
	})
}
