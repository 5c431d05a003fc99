package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what an upstream can ask for.
const maxRetryAfter = 24 * time.Hour

// parseRetryAfter reads a Retry-After header: seconds, or a date. A date that is over is no wait.
func parseRetryAfter(text string, now time.Time) (wait time.Duration, ok bool) {
	text = strings.TrimSpace(text)
	if seconds, ok := parseDigits(text); ok {
		return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}

// A contentRange is the range that a 206 carries: length bytes from first on, of a whole of total bytes.
type contentRange struct {
	first, length int64
	total         int64 // -1 when the upstream does not say
}

// parseContentRange reads "bytes 0-9/100" and "bytes 0-9/*".
func parseContentRange(text string) (contentRange, bool) {
	unit, text, _ := strings.Cut(strings.TrimSpace(text), " ")
	span, whole, ok := strings.Cut(strings.TrimSpace(text), "/")
	from, to, dash := strings.Cut(span, "-")
	if !ok || !dash || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, false
	}
	first, ok1 := parseDigits(from)
	last, ok2 := parseDigits(to)
	if !ok1 || !ok2 || last < first || last-first+1 < 1 {
		return contentRange{}, false
	}
	r := contentRange{first: first, length: last - first + 1, total: -1}
	if whole == "*" {
		return r, true
	}
	r.total, ok = parseDigits(whole)
	return r, ok && r.total > last
}

// parseDigits is strconv.ParseInt for what RFC 9110 calls 1*DIGIT: no sign, no space. Numbers beyond an int64 are
// not ok.
func parseDigits(text string) (int64, bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// nextLink is the target of the first link with rel=next in Link headers (RFC 8288), or "".
func nextLink(headers []string) string {
	for _, text := range headers {
		for text != "" {
			target, params, rest := cutLink(text)
			if target != "" && isNext(params) {
				return target
			}
			text = rest
		}
	}
	return ""
}

// cutLink splits `<target>; params` off text, up to the comma that is in no quotes.
func cutLink(text string) (target, params, rest string) {
	_, text, ok := strings.Cut(text, "<")
	if !ok {
		return "", "", ""
	}
	target, text, ok = strings.Cut(text, ">")
	if !ok {
		return "", "", ""
	}
	params, rest = cutUnquoted(text, ',')
	return target, params, rest
}

func isNext(params string) bool {
	for params != "" {
		var param string
		param, params = cutUnquoted(params, ';')
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "rel") {
			for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
				if strings.EqualFold(rel, "next") {
					return true
				}
			}
		}
	}
	return false
}

// cutUnquoted splits text at the first separator that is not between quotes.
func cutUnquoted(text string, separator byte) (before, after string) {
	quoted := false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}

// mediaType is a Content-Type without its parameters, in lower case.
func mediaType(contentType string) string {
	text, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(text))
}

// parseRateLimit reads Docker Hub's "100;w=21600": a number and the window in seconds that it is for.
func parseRateLimit(text string) (n int64, window time.Duration, ok bool) {
	number, params, _ := strings.Cut(text, ";")
	n, ok = parseDigits(strings.TrimSpace(number))
	if !ok {
		return 0, 0, false
	}
	if seconds, found := strings.CutPrefix(strings.TrimSpace(params), "w="); found {
		if s, ok := parseDigits(seconds); ok && s < int64(366*24*time.Hour/time.Second) {
			window = time.Duration(s) * time.Second
		}
	}
	return n, window, true
}
