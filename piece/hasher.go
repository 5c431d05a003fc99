package piece

import (
	"fmt"
	"hash"

	"github.com/pullonce/pullonce/oci"
)

// A Hasher hashes a blob's pieces in order and extends the list with the midstates that it learns: the issuer's side.
type Hasher struct {
	list *List
	hash hash.Hash
	next int
}

// NewHasher continues a list from the last piece whose end it knows; a fresh list starts at the first piece.
func NewHasher(l *List) *Hasher {
	l.mu.RLock()
	defer l.mu.RUnlock()
	size := l.alg.stateSize
	next := len(l.states) / size
	var state []byte
	if next > 0 {
		state = l.states[(next-1)*size : next*size]
	}
	return &Hasher{list: l, hash: l.alg.resume(state, int64(next)*l.PieceSize()), next: next}
}

// Next is the piece that must be hashed next; Count of the list when all are.
func (h *Hasher) Next() int { return h.next }

// Piece hashes data, which is piece Next, whole. After the last piece it returns an *oci.MismatchError when the whole
// digest does not hold; before that, wrong bytes cannot be told from right ones.
func (h *Hasher) Piece(data []byte) error {
	if _, n := h.list.Bounds(h.next); h.next >= h.list.Count() || int64(len(data)) != n {
		return fmt.Errorf("hash piece %d of %s: %d bytes given", h.next, h.list.Digest(), len(data))
	}
	_, _ = h.hash.Write(data)
	h.next++
	d := h.list.Digest()
	if h.next < h.list.Count() {
		return h.list.Extend(h.next, h.list.alg.state(h.hash))
	}
	if oci.FromHash(d.Algorithm(), h.hash) != d {
		return &oci.MismatchError{Digest: d, Piece: -1}
	}
	return nil
}
