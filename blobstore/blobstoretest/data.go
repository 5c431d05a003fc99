// Package blobstoretest is the contract of a blob store as a test suite, and the blobs to test with. Every mode of the
// store must pass it. Its functions may be called by goroutines at once.
package blobstoretest

import (
	"math/rand/v2"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// PieceSize is the piece size in bytes of the lists that List makes.
const PieceSize = 64 << 10

// Data is size bytes that follow from seed.
func Data(seed uint64, size int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 7})
	data := make([]byte, size)
	_, _ = r.Read(data)
	return data
}

// Digest is the SHA-256 digest of data.
func Digest(data []byte) oci.Digest { return oci.FromBytes(oci.SHA256, data) }

// List is a complete piece list of data.
func List(t testing.TB, data []byte) *piece.List {
	t.Helper()
	l := piece.Issue(Digest(data), int64(len(data)), PieceSize, "issuer")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		if err := h.Piece(Piece(l, data, i)); err != nil {
			t.Fatalf("hash piece %d: %v", i, err)
		}
	}
	return l
}

// Piece is piece i of data.
func Piece(l *piece.List, data []byte, i int) []byte {
	off, n := l.Bounds(i)
	return data[off : off+n]
}
