package piece

import (
	"fmt"
	"math/bits"
)

// A Bitmap is a set of piece numbers below a fixed length. It is not safe for goroutines at once.
type Bitmap struct {
	words []uint64
	n     int
	count int
}

// NewBitmap is an empty set of pieces 0 to n-1.
func NewBitmap(n int) *Bitmap { return &Bitmap{words: make([]uint64, (n+63)/64), n: n} }

// FullBitmap is the set of all pieces 0 to n-1.
func FullBitmap(n int) *Bitmap {
	b := NewBitmap(n)
	for i := range n {
		b.Set(i)
	}
	return b
}

// BitmapFromBytes reads what Bytes wrote for a bitmap of n pieces; the bytes may come from outside.
func BitmapFromBytes(n int, raw []byte) (*Bitmap, error) {
	if len(raw) != (n+7)/8 {
		return nil, fmt.Errorf("bitmap of %d pieces in %d bytes", n, len(raw))
	}
	b := NewBitmap(n)
	for i, v := range raw {
		b.words[i/8] |= uint64(v) << (i % 8 * 8)
	}
	if n%64 != 0 && b.words[n/64]>>(n%64) != 0 {
		return nil, fmt.Errorf("bitmap of %d pieces has more", n)
	}
	for _, w := range b.words {
		b.count += bits.OnesCount64(w)
	}
	return b, nil
}

// Bytes writes the set, the lowest piece in the lowest bit of the first byte.
func (b *Bitmap) Bytes() []byte {
	raw := make([]byte, (b.n+7)/8)
	for i := range raw {
		raw[i] = byte(b.words[i/8] >> (i % 8 * 8))
	}
	return raw
}

// Len is the number of pieces that the set is about.
func (b *Bitmap) Len() int { return b.n }

// Count is the number of pieces in the set.
func (b *Bitmap) Count() int { return b.count }

// Full tells whether all pieces are in the set.
func (b *Bitmap) Full() bool { return b.count == b.n }

// Has tells whether piece i is in the set; a piece outside 0 to Len()-1 is not.
func (b *Bitmap) Has(i int) bool {
	return i >= 0 && i < b.n && b.words[i/64]>>(i%64)&1 == 1
}

// Set adds piece i and tells whether it was new.
func (b *Bitmap) Set(i int) bool {
	if b.Has(i) {
		return false
	}
	b.words[i/64] |= 1 << (i % 64)
	b.count++
	return true
}

// Clear removes piece i and tells whether it was there.
func (b *Bitmap) Clear(i int) bool {
	if !b.Has(i) {
		return false
	}
	b.words[i/64] &^= 1 << (i % 64)
	b.count--
	return true
}

// Next is the first piece at or after from that is in the set, or -1.
func (b *Bitmap) Next(from int) int { return b.scan(from, 0) }

// NextClear is the first piece at or after from that is not in the set, or -1.
func (b *Bitmap) NextClear(from int) int { return b.scan(from, ^uint64(0)) }

func (b *Bitmap) scan(from int, flip uint64) int {
	for from < b.n {
		w := (b.words[from/64] ^ flip) >> (from % 64)
		if w != 0 {
			if i := from + bits.TrailingZeros64(w); i < b.n {
				return i
			}
			return -1
		}
		from = (from/64 + 1) * 64
	}
	return -1
}

// Clone is a copy that changes on its own.
func (b *Bitmap) Clone() *Bitmap {
	return &Bitmap{words: append([]uint64(nil), b.words...), n: b.n, count: b.count}
}
