package piece

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/pullonce/pullonce/oci"
)

// tallySize is the piece size in bytes at which a Tally notes midstates: the smallest that SizeFor chooses, so that the
// midstates of every larger size are among them.
const tallySize = 1 << 20

// A Tally hashes bytes in order of which neither the digest nor the size is known yet, and has their piece list at the
// end, whatever size the pieces should have had: the midstates of larger pieces are every second or fourth of those of
// smaller ones. It may not be used by goroutines at once.
type Tally struct {
	algorithm string
	alg       algorithm
	hash      hash.Hash
	size      int64
	states    []byte
}

// NewTally starts with no bytes; algorithm is oci.SHA256 or oci.SHA512.
func NewTally(algorithm string) *Tally {
	alg := algorithmNamed(algorithm)
	return &Tally{algorithm: algorithm, alg: alg, hash: alg.newHash()}
}

// Algorithm is what the Tally hashes with.
func (t *Tally) Algorithm() string { return t.algorithm }

// Size is how many bytes were hashed.
func (t *Tally) Size() int64 { return t.size }

// Write hashes data. It never fails.
func (t *Tally) Write(data []byte) (int, error) {
	n := len(data)
	for len(data) > 0 {
		part := data[:min(int64(len(data)), tallySize-t.size%tallySize)]
		_, _ = t.hash.Write(part)
		t.size += int64(len(part))
		data = data[len(part):]
		if t.size%tallySize == 0 {
			t.states = append(t.states, t.alg.state(t.hash)...)
		}
	}
	return n, nil
}

// Digest is the digest of what was hashed so far.
func (t *Tally) Digest() oci.Digest { return oci.FromHash(t.algorithm, t.hash) }

// List is the complete piece list of what was hashed, issued by the node issuer.
func (t *Tally) List(issuer string) (*List, error) {
	h := Header{Digest: t.Digest(), Size: t.size, PieceSize: SizeFor(t.size)}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	l := Issue(h.Digest, h.Size, h.PieceSize, issuer)
	every, size := int(h.PieceSize/tallySize), t.alg.stateSize
	states := make([]byte, 0, (l.Count()-1)*size)
	for i := 1; i < l.Count(); i++ {
		at := (i*every - 1) * size
		states = append(states, t.states[at:at+size]...)
	}
	return l, l.Extend(1, states)
}

// MarshalBinary writes where the Tally stands, for disk.
func (t *Tally) MarshalBinary() ([]byte, error) {
	state, err := t.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("write tally: %w", err)
	}
	b := appendText(nil, t.algorithm)
	b = binary.BigEndian.AppendUint64(b, uint64(t.size))
	b = appendText(b, string(state))
	return append(b, t.states...), nil
}

// UnmarshalTally reads what MarshalBinary wrote.
func UnmarshalTally(raw []byte) (*Tally, error) {
	name, raw, ok := cutText(raw)
	if !ok || len(raw) < 8 || (name != oci.SHA256 && name != oci.SHA512) {
		return nil, fmt.Errorf("tally cut short or of algorithm %.20q", name)
	}
	t := NewTally(name)
	t.size = int64(binary.BigEndian.Uint64(raw))
	state, states, ok := cutText(raw[8:])
	if !ok || t.size < 0 || int64(len(states)) != t.size/tallySize*int64(t.alg.stateSize) {
		return nil, fmt.Errorf("tally of %d bytes cut short", t.size)
	}
	if err := t.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary([]byte(state)); err != nil {
		return nil, fmt.Errorf("read tally: %w", err)
	}
	t.states = append(t.states, states...)
	return t, nil
}
