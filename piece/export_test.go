package piece

import (
	"hash"

	"github.com/pullonce/pullonce/oci"
)

// StateAfter is the chaining value of a SHA-256 after whole blocks.
func StateAfter(h hash.Hash, blocks []byte) []byte {
	_, _ = h.Write(blocks)
	return algorithmOf(oci.Digest{}).state(h)
}
