package piece

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/pullonce/pullonce/oci"
)

// An algorithm knows how Go's hashes lay out their state: magic, chaining value, unprocessed input (none at the end of
// a piece, since pieces are whole blocks), length in bytes.
type algorithm struct {
	magic     string
	stateSize int // bytes of the chaining value, which is the midstate
	blockSize int
	newHash   func() hash.Hash
}

func algorithmOf(d oci.Digest) algorithm { return algorithmNamed(d.Algorithm()) }

func algorithmNamed(name string) algorithm {
	if name == oci.SHA512 {
		return algorithm{"sha\x07", sha512.Size, sha512.BlockSize, sha512.New}
	}
	return algorithm{"sha\x03", sha256.Size, sha256.BlockSize, sha256.New}
}

// resume is a hash that has seen length bytes and stands at state. A nil state is the standard's constant.
func (a algorithm) resume(state []byte, length int64) hash.Hash {
	h := a.newHash()
	if state == nil {
		return h
	}
	blob := make([]byte, 0, len(a.magic)+a.stateSize+a.blockSize+8)
	blob = append(blob, a.magic...)
	blob = append(blob, state...)
	blob = append(blob, make([]byte, a.blockSize)...)
	blob = binary.BigEndian.AppendUint64(blob, uint64(length))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(blob); err != nil {
		panic(fmt.Sprintf("piece: hash state refused: %v", err)) // the layout of a released Go is fixed
	}
	return h
}

// state is the chaining value of h, which must stand at the end of a block.
func (a algorithm) state(h hash.Hash) []byte {
	blob, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || !bytes.HasPrefix(blob, []byte(a.magic)) {
		panic(fmt.Sprintf("piece: hash state not readable: %v", err))
	}
	return blob[len(a.magic) : len(a.magic)+a.stateSize : len(a.magic)+a.stateSize]
}
