package piece_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// issued is the complete list of data as its issuer would have it.
func issued(t *testing.T, algorithm string, data []byte, pieceSize int64) *piece.List {
	t.Helper()
	l := piece.Issue(oci.FromBytes(algorithm, data), int64(len(data)), pieceSize, "n1")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		if err := h.Piece(part(l, data, i)); err != nil {
			t.Fatalf("Piece(%d) = %v; want nil", i, err)
		}
	}
	return l
}

func part(l *piece.List, data []byte, i int) []byte {
	off, n := l.Bounds(i)
	return data[off : off+n]
}

func TestEveryPieceIsCheckedInAnyOrder(t *testing.T) {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		for _, size := range []int{0, 1, 1023, 1024, 1025, 4096, 10_000} {
			data := randomBytes(size)
			l := issued(t, algorithm, data, 1024)
			for _, i := range rand.Perm(l.Count()) {
				if err := l.Check(i, part(l, data, i)); err != nil {
					t.Errorf("%s of %d bytes: Check(%d) = %v; want nil", algorithm, size, i, err)
				}
			}
		}
	}
}

func TestAFlippedBitFailsItsPieceAlone(t *testing.T) {
	data := randomBytes(10_000)
	l := issued(t, oci.SHA256, data, 1024)
	data[5000] ^= 1
	for i := range l.Count() {
		err := l.Check(i, part(l, data, i))
		if bad, ok := errors.AsType[*oci.MismatchError](err); ok != (i == 4) || ok && bad.Piece != 4 {
			t.Errorf("Check(%d) = %v; want a mismatch of piece 4 alone", i, err)
		}
	}
}

func TestAForgedListFailsAtItsLastPiece(t *testing.T) {
	data, forged := randomBytes(10_000), randomBytes(10_000)
	forged[77] ^= 1
	l := piece.Issue(oci.FromBytes(oci.SHA256, data), int64(len(data)), 1024, "liar")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		err := h.Piece(part(l, forged, i))
		if last := i == l.Count()-1; last != (err != nil) {
			t.Fatalf("Piece(%d) = %v; want an error at the last piece alone", i, err)
		}
	}
	for i := range l.Count() {
		if err := l.Check(i, part(l, forged, i)); (err != nil) != (i == l.Count()-1) {
			t.Errorf("Check(%d) = %v; want a mismatch at the last piece alone", i, err)
		}
	}
}

func TestAListGrowsOnAnotherNodeAsItsIssuerHashes(t *testing.T) {
	data := randomBytes(10_000)
	l := issued(t, oci.SHA256, data, 1024)
	other, err := piece.FromHeader(l.Header())
	if err != nil || other.ID() != l.ID() || other.Known() != 0 {
		t.Fatalf("FromHeader: id %v known %d err %v; want %v 0 nil", other.ID(), other.Known(), err, l.ID())
	}
	grown := other.Grown()
	states := l.Midstates(1)
	if err := other.Extend(1, states[:3*32]); err != nil || other.Known() != 3 {
		t.Fatalf("Extend of 3: known %d, %v; want 3, nil", other.Known(), err)
	}
	select {
	case <-grown:
	default:
		t.Error("Grown not closed after Extend")
	}
	if err := other.Extend(5, states[4*32:]); err == nil {
		t.Error("Extend over a gap = nil; want an error")
	}
	wrong := bytes.Clone(states[:32])
	wrong[0] ^= 1
	if err := other.Extend(2, wrong); err == nil {
		t.Error("Extend with a second midstate for one piece = nil; want an error")
	}
	if err := other.Extend(2, states[32:]); err != nil || other.Known() != l.Count() {
		t.Fatalf("Extend of the rest: known %d, %v; want %d, nil", other.Known(), err, l.Count())
	}
	if err := other.Extend(l.Count(), states[:32]); err == nil {
		t.Error("Extend past the last piece = nil; want an error")
	}
}

func TestAHasherResumesAtAnyPiece(t *testing.T) {
	data := randomBytes(10_000)
	l := issued(t, oci.SHA512, data, 1024)
	for k := range l.Count() {
		resumed, _ := piece.FromHeader(l.Header())
		if k > 0 {
			if err := resumed.Extend(1, l.Midstates(1)[:k*64][:min(k, l.Count()-1)*64]); err != nil {
				t.Fatal(err)
			}
		}
		h := piece.NewHasher(resumed)
		if h.Next() != k {
			t.Fatalf("Next() = %d; want %d", h.Next(), k)
		}
		for i := k; i < l.Count(); i++ {
			if err := h.Piece(part(l, data, i)); err != nil {
				t.Fatalf("resumed at %d: Piece(%d) = %v", k, i, err)
			}
		}
	}
}

// The midstate after the first block of the two-block message of FIPS 180-4's examples, as NIST publishes it
// (SHA256.pdf, "abcdbcde…nopq", intermediate hash value H(1)).
func TestMidstateMatchesTheStandardsExample(t *testing.T) {
	want := []byte{
		0x85, 0xe6, 0x55, 0xd6, 0x41, 0x7a, 0x17, 0x95, 0x33, 0x63, 0x37, 0x6a, 0x62, 0x4c, 0xde, 0x5c,
		0x76, 0xe0, 0x95, 0x89, 0xca, 0xc5, 0xf8, 0x11, 0xcc, 0x4b, 0x32, 0xc1, 0xf2, 0x0e, 0x53, 0x3a,
	}
	// The example's first block is the message with its padding; hashing that block as data gives H(1).
	block := make([]byte, 64)
	copy(block, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq\x80")
	got := piece.StateAfter(sha256.New(), block)
	if !bytes.Equal(got, want) {
		t.Errorf("state after the first block = %x; want %x", got, want)
	}
}

func FuzzUnmarshalList(f *testing.F) {
	data := randomBytes(5000)
	l := piece.Issue(oci.FromBytes(oci.SHA256, data), 5000, 1024, "n1")
	raw, _ := l.MarshalBinary()
	f.Add(raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := piece.UnmarshalList(raw)
		if err != nil {
			return
		}
		again, err := l.MarshalBinary()
		if err != nil || !bytes.Equal(raw, again) {
			t.Errorf("round trip of %x gave %x, %v", raw, again, err)
		}
	})
}

func FuzzBitmapFromBytes(f *testing.F) {
	f.Add(9, []byte{1, 1})
	f.Fuzz(func(t *testing.T, n int, raw []byte) {
		if n < 0 || n > 1<<16 {
			return
		}
		b, err := piece.BitmapFromBytes(n, raw)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Bytes(), raw) {
			t.Errorf("round trip of %x gave %x", raw, b.Bytes())
		}
		count := 0
		for i := b.Next(0); i >= 0; i = b.Next(i + 1) {
			count++
		}
		for i := b.NextClear(0); i >= 0; i = b.NextClear(i + 1) {
			count++
		}
		if count != n {
			t.Errorf("Next and NextClear visit %d of %d", count, n)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	data := randomBytes(4 << 20)
	l := piece.Issue(oci.FromBytes(oci.SHA256, data), int64(len(data)), 1<<20, "n1")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		_ = h.Piece(part(l, data, i))
	}
	b.SetBytes(1 << 20)
	for b.Loop() {
		if err := l.Check(2, part(l, data, 2)); err != nil {
			b.Fatal(err)
		}
	}
}
