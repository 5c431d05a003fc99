package access

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
)

// MaxCredential is how many bytes a Credential has at most: more than any token that is in use.
const MaxCredential = 16 << 10

// A Credential is what a client has sent as Authorization: "Basic" or "Bearer", a space, and what follows it. It does not
// show itself in logs and messages. Convert it to string to use it.
type Credential string

// The errors of ParseCredential; both tell nothing of the text.
var (
	// ErrMalformed: an Authorization that its scheme does not allow.
	ErrMalformed = errors.New("malformed Authorization")
	// ErrScheme: an Authorization of a scheme that is neither Basic nor Bearer.
	ErrScheme = errors.New("neither Basic nor Bearer authorization")
)

// ParseCredential reads the value of an Authorization header, strictly as RFC 7617 and RFC 6750 have it. Equal credentials
// become equal texts. The error is ErrMalformed or ErrScheme.
func ParseCredential(text string) (Credential, error) {
	scheme, rest, ok := strings.Cut(text, " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case len(text) > MaxCredential || scheme == "":
		return "", ErrMalformed
	case !strings.EqualFold(scheme, "Basic") && !strings.EqualFold(scheme, "Bearer"):
		return "", ErrScheme
	case !ok:
		return "", ErrMalformed
	case strings.EqualFold(scheme, "Bearer"):
		if !isToken(rest) {
			return "", ErrMalformed
		}
		return Credential("Bearer " + rest), nil
	}
	c := Credential("Basic " + rest)
	if _, _, ok := c.basic(); !ok {
		return "", ErrMalformed
	}
	return c, nil
}

// isToken tells whether text is a b64token of RFC 6750.
func isToken(text string) bool {
	body := strings.TrimRight(text, "=")
	return body != "" && !strings.ContainsFunc(body, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("-._~+/", r)
	})
}

// basic is the user and the password of a Basic credential; not ok with what is none.
func (c Credential) basic() (user, password string, ok bool) {
	text, ok := strings.CutPrefix(string(c), "Basic ")
	if !ok || strings.ContainsAny(text, "\r\n") { // which the decoder passes over
		return "", "", false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(raw), ":")
	if !ok || hasControl(string(raw)) {
		return "", "", false
	}
	return user, password, true
}

// bearer is the token of a Bearer credential; not ok with what is none.
func (c Credential) bearer() (token string, ok bool) { return strings.CutPrefix(string(c), "Bearer ") }

// hasControl tells whether text has a control character, which no user and no password may have.
func hasControl(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// String is "[secret]", or "" when there is none.
func (c Credential) String() string {
	if c == "" {
		return ""
	}
	return "[secret]"
}

// GoString is String, for %#v.
func (c Credential) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String, so that what is written out shows no password.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
