package piece

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// Bounds of a list that is accepted from outside.
const (
	MinSize  = 1 << 10 // bytes of the smallest piece
	MaxSize  = 4 << 20 // bytes of the largest piece
	MaxCount = 1 << 18 // pieces of one blob: 1 TiB at the largest piece
)

// SizeFor is the piece size in bytes that an issuer chooses for a blob of blobSize bytes: enough pieces for a swarm to
// spread, few enough to keep the list small. Only the issuer asks; every other node takes the size from the list.
func SizeFor(blobSize int64) int64 {
	switch {
	case blobSize <= 4<<30:
		return 1 << 20
	case blobSize <= 16<<30:
		return 2 << 20
	default:
		return MaxSize
	}
}

// An ID tells two lists of one digest apart. Pieces, haves and partial blobs carry it, so that lists never mix.
type ID [16]byte

// String is the id in hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A Header is what is fixed about a list when it is issued.
type Header struct {
	Digest    oci.Digest
	Size      int64  // bytes of the blob
	PieceSize int64  // bytes of every piece but the last
	Issuer    string // node id of the issuer
	Nonce     [8]byte
}

// ID is the first half of a SHA-256 over all of the header.
func (h Header) ID() ID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%d\n%q\n%x", h.Digest, h.Size, h.PieceSize, h.Issuer, h.Nonce))
	return ID(sum[:16])
}

// Count is the number of pieces; a blob of no bytes has one empty piece.
func (h Header) Count() int {
	if h.Size == 0 {
		return 1
	}
	return int((h.Size + h.PieceSize - 1) / h.PieceSize)
}

// Validate tells what is wrong with a header that came from outside.
func (h Header) Validate() error {
	switch {
	case h.Digest.IsZero():
		return fmt.Errorf("piece list without a digest")
	case h.PieceSize < MinSize || h.PieceSize > MaxSize || h.PieceSize%MinSize != 0:
		return fmt.Errorf("piece size %d of %s", h.PieceSize, h.Digest)
	case h.Size < 0 || h.Size > MaxCount*h.PieceSize:
		return fmt.Errorf("size %d of %s", h.Size, h.Digest)
	}
	return nil
}

// A List is a blob's size, piece size and midstates as one node issued them. It grows while the issuer hashes and may
// be used by goroutines at once.
type List struct {
	header Header
	id     ID
	alg    algorithm

	mu     sync.RWMutex
	states []byte // midstates 1, 2, … one after the other; midstate 0 is the standard's constant
	grown  chan struct{}
}

// Issue makes a new list of which no midstate is known yet; issuer is this node's id.
func Issue(d oci.Digest, size, pieceSize int64, issuer string) *List {
	h := Header{Digest: d, Size: size, PieceSize: pieceSize, Issuer: issuer}
	_, _ = rand.Read(h.Nonce[:])
	return newList(h)
}

// FromHeader is the list that another node issued; its midstates follow by Extend. The header is validated.
func FromHeader(h Header) (*List, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	return newList(h), nil
}

func newList(h Header) *List {
	return &List{header: h, id: h.ID(), alg: algorithmOf(h.Digest), grown: make(chan struct{})}
}

// Header is what was fixed when the list was issued.
func (l *List) Header() Header { return l.header }

// ID tells this list apart from every other one of the same digest.
func (l *List) ID() ID { return l.id }

// Digest names the blob.
func (l *List) Digest() oci.Digest { return l.header.Digest }

// Size is the blob's size in bytes.
func (l *List) Size() int64 { return l.header.Size }

// PieceSize is the size in bytes of every piece but the last.
func (l *List) PieceSize() int64 { return l.header.PieceSize }

// Count is the number of pieces, at least one.
func (l *List) Count() int { return l.header.Count() }

// Issuer is the id of the node that issued the list.
func (l *List) Issuer() string { return l.header.Issuer }

// Bounds are the offset and the length in bytes of piece i.
func (l *List) Bounds(i int) (off, n int64) {
	off = int64(i) * l.header.PieceSize
	return off, min(l.header.PieceSize, l.header.Size-off)
}

// Known is how many pieces, counted from the first, can be checked now.
func (l *List) Known() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.known()
}

func (l *List) known() int {
	if n := len(l.states) / l.alg.stateSize; n < l.Count()-1 {
		return n
	}
	return l.Count()
}

// Grown is closed when the list grows the next time.
func (l *List) Grown() <-chan struct{} {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.grown
}

// Midstates are the states after from, from+1, … pieces that are known, as one run of equal parts; from is at least 1.
func (l *List) Midstates(from int) []byte {
	l.mu.RLock()
	defer l.mu.RUnlock()
	at := (from - 1) * l.alg.stateSize
	if from < 1 || at >= len(l.states) {
		return nil
	}
	return bytes.Clone(l.states[at:])
}

// Extend takes the states after first, first+1, … pieces as Midstates gave them. What is known already must be the
// same, a gap is an error, and so is a state past the last piece but one.
func (l *List) Extend(first int, states []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.alg.stateSize
	at := (first - 1) * size
	if first < 1 || len(states)%size != 0 || at > len(l.states) {
		return fmt.Errorf("piece list of %s: midstates from %d do not continue %d known", l.header.Digest, first, len(l.states)/size)
	}
	if at+len(states) > (l.Count()-1)*size {
		return fmt.Errorf("piece list of %s: more midstates than pieces", l.header.Digest)
	}
	both := min(len(l.states)-at, len(states))
	if !bytes.Equal(l.states[at:at+both], states[:both]) {
		return fmt.Errorf("piece list of %s: issuer %s gave two midstates for one piece", l.header.Digest, l.header.Issuer)
	}
	if both < len(states) {
		l.states = append(l.states, states[both:]...)
		close(l.grown)
		l.grown = make(chan struct{})
	}
	return nil
}

// Check hashes data, in one part or several, once and tells whether it is piece i. It must be known (i < Known). The
// error is an *oci.MismatchError, for the last piece also when only the whole digest does not hold.
func (l *List) Check(i int, parts ...[]byte) error {
	off, n := l.Bounds(i)
	for _, part := range parts {
		n -= int64(len(part))
	}
	if n != 0 {
		return &oci.MismatchError{Digest: l.header.Digest, Piece: i}
	}
	start, end := l.ends(i)
	h := l.alg.resume(start, off)
	for _, part := range parts {
		_, _ = h.Write(part)
	}
	if end != nil && bytes.Equal(l.alg.state(h), end) {
		return nil
	}
	if i == l.Count()-1 && oci.FromHash(l.header.Digest.Algorithm(), h) == l.header.Digest {
		return nil
	}
	return &oci.MismatchError{Digest: l.header.Digest, Piece: i}
}

// ends are the midstates before and after piece i: nil before the first, nil after the last.
func (l *List) ends(i int) (start, end []byte) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if i >= l.known() {
		panic(fmt.Sprintf("piece: check of piece %d, %d are known", i, l.known()))
	}
	size := l.alg.stateSize
	if i > 0 {
		start = l.states[(i-1)*size : i*size]
	}
	if i < l.Count()-1 {
		end = l.states[i*size : (i+1)*size]
	}
	return start, end
}

// MarshalBinary writes the header and the midstates that are known, for disk and wire.
func (l *List) MarshalBinary() ([]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	b := appendText(nil, l.header.Digest.String())
	b = appendText(b, l.header.Issuer)
	b = binary.BigEndian.AppendUint64(b, uint64(l.header.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(l.header.PieceSize))
	b = append(b, l.header.Nonce[:]...)
	return append(b, l.states...), nil
}

// UnmarshalList reads what MarshalBinary wrote; the bytes may come from outside.
func UnmarshalList(raw []byte) (*List, error) {
	digest, raw, ok1 := cutText(raw)
	issuer, raw, ok2 := cutText(raw)
	if !ok1 || !ok2 || len(raw) < 24 {
		return nil, fmt.Errorf("piece list cut short")
	}
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return nil, fmt.Errorf("piece list: %w", err)
	}
	h := Header{Digest: d, Issuer: issuer, Nonce: [8]byte(raw[16:24])}
	h.Size = int64(binary.BigEndian.Uint64(raw))
	h.PieceSize = int64(binary.BigEndian.Uint64(raw[8:]))
	l, err := FromHeader(h)
	if err != nil {
		return nil, err
	}
	return l, l.Extend(1, raw[24:])
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func cutText(b []byte) (string, []byte, bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}
