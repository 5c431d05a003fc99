package trust

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
)

// A SealKey is what the farm's secrets are sealed with wherever they are kept. It does not show itself in logs.
type SealKey [32]byte

// sealVersion is the first byte of what is sealed: AES-256-GCM, a random nonce in front.
const sealVersion = 1

// errSealed says that something cannot be unsealed: another key, another purpose, or damage.
var errSealed = errors.New("sealed with another key, for something else, or damaged")

// newSealKey is a new random key.
func newSealKey() SealKey {
	var k SealKey
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// Format implements fmt.Formatter: a key never shows.
func (k SealKey) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[seal key]")) }

// LogValue implements slog.LogValuer.
func (k SealKey) LogValue() slog.Value { return slog.StringValue("[seal key]") }

// seal encrypts plain. what says what it is: nothing else can be put in its place, as unseal is told the same.
func (k SealKey) seal(what string, plain []byte) []byte {
	return k.aead().Seal([]byte{sealVersion}, nil, plain, []byte(what))
}

// unseal undoes seal.
func (k SealKey) unseal(what string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fmt.Errorf("unseal %s: %w", what, errSealed)
	}
	plain, err := k.aead().Open(nil, nil, sealed[1:], []byte(what))
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", what, errSealed) // the cause says no more than that
	}
	return plain, nil
}

func (k SealKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // of AES there is one
	}
	return aead
}
