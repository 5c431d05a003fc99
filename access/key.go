package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
)

// A Key stands for a credential in memory. It tells nothing about the credential to who has not the Secret.
type Key [sha256.Size]byte

// A Secret makes keys of credentials. Its own key is random and lives as long as it does, so that keys are worth nothing
// elsewhere or later.
type Secret struct {
	hashers sync.Pool // of *hasher; nothing of a credential stays in one
}

// A hasher makes one key after the other without allocating: all that escapes is here.
type hasher struct {
	keyed hash.Hash
	part  [512]byte
	sum   Key
}

// NewSecret makes a Secret with a key of its own.
func NewSecret() *Secret {
	key := make([]byte, sha256.BlockSize)
	_, _ = rand.Read(key) // never fails
	s := new(Secret)
	s.hashers.New = func() any { return &hasher{keyed: hmac.New(sha256.New, key)} }
	return s
}

// KeyOf is the Key of c: the same for the same credential, another for any other.
func (s *Secret) KeyOf(c Credential) Key {
	h := s.hashers.Get().(*hasher)
	defer s.hashers.Put(h)
	for text := string(c); text != ""; {
		n := copy(h.part[:], text)
		_, _ = h.keyed.Write(h.part[:n]) // never fails
		text = text[n:]
	}
	h.keyed.Sum(h.sum[:0])
	k := h.sum
	h.keyed.Reset()
	clear(h.part[:])
	return k
}
