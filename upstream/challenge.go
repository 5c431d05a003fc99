package upstream

import "strings"

// The schemes that are understood.
const (
	schemeBearer = "bearer"
	schemeBasic  = "basic"
)

// A challenge is one way to authenticate that a registry names in WWW-Authenticate (RFC 9110, section 11.6.1).
type challenge struct {
	scheme string // lower case: "bearer", "basic", …
	realm  string
	// Of bearer only.
	service string
	scope   string
}

// maxChallengeBytes bounds what is read of all WWW-Authenticate headers of an answer.
const maxChallengeBytes = 8 << 10

// parseChallenges reads all challenges of all headers, as far as they can be read; what cannot is left out. Several
// challenges may stand in one header, and their parameters are separated by the same comma as they are.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	left := maxChallengeBytes
	for _, text := range headers {
		if left -= len(text); left < 0 {
			break
		}
		all = append(all, parseChallengeHeader(text)...)
	}
	return all
}

func parseChallengeHeader(text string) []challenge {
	var all []challenge
	for {
		text = strings.TrimLeft(text, " \t,")
		word, rest := cutToken(text)
		if word == "" {
			return all
		}
		value, after, isParam := cutValue(rest)
		switch {
		case !isParam:
			all = append(all, challenge{scheme: strings.ToLower(word)})
			text = rest
		case len(all) == 0:
			return all // a parameter of no scheme: the header is something else
		default:
			all[len(all)-1].set(strings.ToLower(word), value)
			text = after
		}
	}
}

func (c *challenge) set(name, value string) {
	switch name {
	case "realm":
		c.realm = value
	case "service":
		c.service = value
	case "scope":
		c.scope = value
	}
}

// header is a Bearer challenge as it is written, "" when a part of it cannot be.
func (c *challenge) header() string {
	var text strings.Builder
	text.WriteString("Bearer realm=" + quoted(c.realm))
	for _, param := range []struct{ name, value string }{{"service", c.service}, {"scope", c.scope}} {
		if param.value != "" {
			text.WriteString("," + param.name + "=" + quoted(param.value))
		}
	}
	if strings.ContainsFunc(text.String(), func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return text.String()
}

// quoted is a quoted-string of RFC 9110.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// cutToken splits off the token (RFC 9110) that text starts with, which may be none.
func cutToken(text string) (token, rest string) {
	n := 0
	for n < len(text) && isTokenByte(text[n]) {
		n++
	}
	return text[:n], text[n:]
}

func isTokenByte(b byte) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~/", b) >= 0 // "/" is of token68 credentials, which are passed over
}

// cutValue splits `= value` off text, where the value is a token or a quoted string. An unclosed quote ends with the
// text.
func cutValue(text string) (value, rest string, ok bool) {
	text, ok = strings.CutPrefix(strings.TrimLeft(text, " \t"), "=")
	if !ok {
		return "", text, false
	}
	text = strings.TrimLeft(text, " \t=")
	if !strings.HasPrefix(text, `"`) {
		value, rest = cutUntilComma(text)
		return value, rest, true
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return b.String(), "", true
			}
		}
		b.WriteByte(text[i])
	}
	return b.String(), "", true
}

// cutUntilComma takes unquoted values more widely than a token: registries are seen to send URLs without quotes.
func cutUntilComma(text string) (value, rest string) {
	n := strings.IndexAny(text, ", \t")
	if n < 0 {
		n = len(text)
	}
	return text[:n], text[n:]
}
