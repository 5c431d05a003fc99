package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
)

// A Token lets a node join: it names a secret that the farm knows, and the authority that the farm must show before the
// secret is sent. It does not show its secret in logs; Text does. The zero Token is none.
type Token struct {
	id     [8]byte
	secret [32]byte
	root   Fingerprint
}

// The text form: tokenPrefix and, as base64url without padding, a version, id, secret, fingerprint, and a CRC-32 of all of
// that, which tells a token that was cut short or mistyped from one that is not known.
const (
	tokenPrefix  = "p2p1."
	tokenVersion = 1
	tokenLen     = 1 + 8 + 32 + 32 + 4
)

var tokenEncoding = base64.RawURLEncoding.Strict()

// newToken is a new random token for the farm whose authority has that fingerprint.
func newToken(root Fingerprint) Token {
	t := Token{root: root}
	_, _ = rand.Read(t.id[:])     // never fails
	_, _ = rand.Read(t.secret[:]) // never fails
	return t
}

// ParseToken reads what Text has made. Space around it is left out. Its errors do not show the text.
func ParseToken(text string) (Token, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("not a join token: it begins with %q", tokenPrefix)
	}
	if len(text) != tokenEncoding.EncodedLen(tokenLen) {
		return Token{}, fmt.Errorf("not a join token: it has %d characters after %q, want %d", len(text), tokenPrefix, tokenEncoding.EncodedLen(tokenLen))
	}
	raw, err := tokenEncoding.DecodeString(text)
	// The decoder passes over line ends, so the number of bytes has to be looked at as well.
	if err != nil || len(raw) != tokenLen || binary.BigEndian.Uint32(raw[tokenLen-4:]) != crc32.ChecksumIEEE(raw[:tokenLen-4]) {
		return Token{}, errors.New("not a join token: it was mistyped")
	}
	if raw[0] != tokenVersion {
		return Token{}, fmt.Errorf("join token of version %d: this node knows %d", raw[0], tokenVersion)
	}
	var t Token
	copy(t.id[:], raw[1:])
	copy(t.secret[:], raw[9:])
	copy(t.root[:], raw[41:])
	return t, nil
}

// Text is the token as it is handed to a new node, with its secret.
func (t Token) Text() string {
	raw := append([]byte{tokenVersion}, t.id[:]...)
	raw = append(raw, t.secret[:]...)
	raw = append(raw, t.root[:]...)
	raw = binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw))
	return tokenPrefix + tokenEncoding.EncodeToString(raw)
}

// ID names the token in lists; it is no secret.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// Fingerprint is the authority's that the farm must show.
func (t Token) Fingerprint() Fingerprint { return t.root }

// String is the token without its secret.
func (t Token) String() string { return "token " + t.ID() }

// Format implements fmt.Formatter: no verb shows the secret.
func (t Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// LogValue implements slog.LogValuer.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// proof is what the farm keeps to know the token again; the secret cannot be told from it.
func (t Token) proof() [32]byte {
	return sha256.Sum256(append([]byte("pullonce join token\x00"), t.secret[:]...))
}

// proves tells whether t is the token that proof is of. How long it takes does not depend on where they differ.
func (t Token) proves(proof []byte) bool {
	own := t.proof()
	return subtle.ConstantTimeCompare(own[:], proof) == 1
}
