package registryapi

import (
	"math"
	"net/http"
	"strings"
)

// A span is the part of a blob that a Range header asks for, before the blob's size is known.
type span struct {
	first, last int64 // last is math.MaxInt64 for an open range
	suffix      int64 // the last so many bytes, when first is -1
}

// wantedSpan reads Range and If-Range. It is nil when the whole blob is to be sent: there is no Range, it is of another
// unit or for another version of the blob, or it lists several ranges, which RFC 9110 lets a server answer with the whole.
// A range that cannot be understood is one that no blob satisfies.
func wantedSpan(header http.Header, etag string) *span {
	values := header["Range"]
	if len(values) == 0 {
		return nil
	}
	if condition := header.Get("If-Range"); condition != "" && condition != etag {
		return nil
	}
	spans, known, ok := parseRange(strings.Join(values, ","))
	switch {
	case !known:
		return nil
	case !ok:
		return &span{first: math.MaxInt64, last: math.MaxInt64}
	case len(spans) > 1:
		return nil
	}
	return &spans[0]
}

// parseRange reads a Range header's value. known tells whether its unit is bytes, ok whether it follows the grammar of
// RFC 9110.
func parseRange(text string) (spans []span, known, ok bool) {
	unit, set, found := strings.Cut(text, "=")
	if !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, false, false
	}
	if !found {
		return nil, true, false
	}
	for set != "" {
		var part string
		part, set, _ = strings.Cut(set, ",")
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		s, ok := parseSpan(part)
		if !ok {
			return nil, true, false
		}
		spans = append(spans, s)
	}
	return spans, true, len(spans) > 0
}

func parseSpan(text string) (span, bool) {
	from, to, ok := strings.Cut(text, "-")
	if !ok || from == "" && to == "" {
		return span{}, false
	}
	if from == "" {
		n, ok := parseNumber(to)
		return span{first: -1, suffix: n}, ok
	}
	first, ok := parseNumber(from)
	if !ok || to == "" {
		return span{first: first, last: math.MaxInt64}, ok
	}
	last, ok := parseNumber(to)
	return span{first: first, last: last}, ok && first <= last
}

// parseNumber reads digits; what is too large for an int64 is as good as the largest.
func parseNumber(text string) (int64, bool) {
	var n int64
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, text != ""
}

// within is the part that s means of a blob of this size; ok is false when there is no such byte.
func (s span) within(size int64) (off, n int64, ok bool) {
	if s.first < 0 {
		n = min(s.suffix, size)
		return size - n, n, n > 0
	}
	if s.first >= size {
		return 0, 0, false
	}
	return s.first, min(s.last, size-1) - s.first + 1, true
}

// etagListed tells whether an If-None-Match header names etag, by weak comparison.
func etagListed(header http.Header, etag string) bool {
	for _, line := range header["If-None-Match"] {
		for line != "" {
			var one string
			one, line, _ = strings.Cut(line, ",")
			one = strings.TrimPrefix(strings.Trim(one, " \t"), "W/")
			if one == "*" || one == etag {
				return true
			}
		}
	}
	return false
}
