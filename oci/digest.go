package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// The digest algorithms that the OCI image specification 1.1 registers and that a farm keeps blobs under.
const (
	SHA256 = "sha256"
	SHA512 = "sha512"
)

// A Digest names a blob by an algorithm and the hash of its bytes ("sha256:" and 64 hex digits). The zero Digest
// names nothing. Digests are comparable and may be map keys.
type Digest struct{ text string }

// ParseDigest reads "algorithm:hex" as the OCI image specification writes it: a registered algorithm and lower-case
// hex digits of exactly its length. The error is ErrDigestInvalid.
func ParseDigest(text string) (Digest, error) {
	algorithm, digits, ok := strings.Cut(text, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%w: %.80q has no algorithm", ErrDigestInvalid, text)
	}
	size := hexSize(algorithm)
	if size == 0 {
		return Digest{}, fmt.Errorf("%w: algorithm %.40q is not supported", ErrDigestInvalid, algorithm)
	}
	if len(digits) != size || !isLowerHex(digits) {
		return Digest{}, fmt.Errorf("%w: %s wants %d lower-case hex digits", ErrDigestInvalid, algorithm, size)
	}
	return Digest{text}, nil
}

// MustDigest is ParseDigest for tests and constants; it panics on what ParseDigest refuses.
func MustDigest(text string) Digest {
	d, err := ParseDigest(text)
	if err != nil {
		panic(err)
	}
	return d
}

// FromBytes is the digest of data under algorithm, which is SHA256 or SHA512.
func FromBytes(algorithm string, data []byte) Digest {
	h := newHash(algorithm)
	_, _ = h.Write(data)
	return FromHash(algorithm, h)
}

// FromHash is the digest that h has summed so far; h must be a hash of algorithm.
func FromHash(algorithm string, h hash.Hash) Digest {
	return Digest{algorithm + ":" + hex.EncodeToString(h.Sum(nil))}
}

// String is the digest as it was parsed; the zero Digest is "".
func (d Digest) String() string { return d.text }

// IsZero tells whether d names nothing.
func (d Digest) IsZero() bool { return d.text == "" }

// Algorithm is SHA256 or SHA512, or "" for the zero Digest.
func (d Digest) Algorithm() string {
	algorithm, _, _ := strings.Cut(d.text, ":")
	return algorithm
}

// Hex is the hash in lower-case hex digits.
func (d Digest) Hex() string {
	_, digits, _ := strings.Cut(d.text, ":")
	return digits
}

// New starts a hash of d's algorithm. It panics on the zero Digest.
func (d Digest) New() hash.Hash { return newHash(d.Algorithm()) }

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.text), nil }

// UnmarshalText reads what MarshalText wrote; an empty text is the zero Digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	panic("oci: no hash for algorithm " + algorithm)
}

func hexSize(algorithm string) int {
	switch algorithm {
	case SHA256:
		return 2 * sha256.Size
	case SHA512:
		return 2 * sha512.Size
	}
	return 0
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
