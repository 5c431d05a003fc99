package upstream

import (
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestChallengesAreReadAsRegistriesWriteThem(t *testing.T) {
	hub := challenge{"bearer", "https://auth.docker.io/token", "registry.docker.io", "repository:library/nginx:pull"}
	for header, want := range map[string][]challenge{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"`:                {hub},
		`bearer  Realm = "https://auth.docker.io/token" , SERVICE=registry.docker.io,scope="repository:library/nginx:pull",error="x,y"`: {hub},
		`Basic realm="Registry Realm"`:                        {{scheme: "basic", realm: "Registry Realm"}},
		`Basic realm="a, b", Bearer realm="c",service="d"`:    {{scheme: "basic", realm: "a, b"}, {scheme: "bearer", realm: "c", service: "d"}},
		`Negotiate, Basic realm="x"`:                          {{scheme: "negotiate"}, {scheme: "basic", realm: "x"}},
		`Negotiate YWJj==, Basic realm="x"`:                   nil, // token68 is passed over, see below
		`Bearer realm=https://auth.example/token,service=reg`: {{scheme: "bearer", realm: "https://auth.example/token", service: "reg"}},
		`Bearer realm="a\"b\\c"`:                              {{scheme: "bearer", realm: `a"b\c`}},
		`Bearer realm="never closed`:                          {{scheme: "bearer", realm: "never closed"}},
		`realm="no scheme"`:                                   nil,
		``:                                                    nil,
		`"`:                                                   nil,
	} {
		got := parseChallenges([]string{header})
		if strings.HasPrefix(header, "Negotiate Y") {
			ch, ok := choose(got)
			if !ok || ch.scheme != "basic" || ch.realm != "x" {
				t.Errorf("choose(%q) = %v, %v; want basic", header, ch, ok)
			}
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("parseChallenges(%q) = %+v; want %+v", header, got, want)
		}
	}
}

func TestBearerGoesBeforeBasic(t *testing.T) {
	got, ok := choose(parseChallenges([]string{`Basic realm="x"`, `Bearer realm="y"`}))
	if !ok || got.scheme != "bearer" {
		t.Errorf("choose = %v, %v; want bearer", got, ok)
	}
	if _, ok := choose(parseChallenges([]string{`Digest realm="x"`})); ok {
		t.Error("choose took Digest; want none")
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "60": time.Minute, " 7 ": 7 * time.Second, "99999999999": maxRetryAfter,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
	} {
		if got, ok := parseRetryAfter(text, now); !ok || got != want {
			t.Errorf("parseRetryAfter(%q) = %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-1", "soon", "1.5", "99999999999999999999"} {
		if got, ok := parseRetryAfter(text, now); ok || got != 0 {
			t.Errorf("parseRetryAfter(%q) = %v, %v; want none", text, got, ok)
		}
	}
}

func TestContentRangesThatMakeNoSenseAreRefused(t *testing.T) {
	for text, want := range map[string]contentRange{
		"bytes 0-9/100": {0, 10, 100}, "bytes 5-5/6": {5, 1, 6}, "Bytes 5-6/*": {5, 2, -1},
	} {
		if got, ok := parseContentRange(text); !ok || got != want {
			t.Errorf("parseContentRange(%q) = %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "bytes", "bytes 0-9", "bytes */100", "bytes 9-0/100", "bytes 0-9/9", "bytes -1-9/10", "bytes 0-+9/10", "items 0-9/10",
		"bytes 0-9223372036854775807/*", "bytes 0-9/99999999999999999999", "bytes 0-9/x", "bytes 0-9-3/10", "bytes=0-9/10",
	} {
		if got, ok := parseContentRange(text); ok {
			t.Errorf("parseContentRange(%q) = %v; want refused", text, got)
		}
	}
}

func TestLinksAreFoundAmongOthers(t *testing.T) {
	for text, want := range map[string]string{
		`</v2/a/tags/list?n=2&last=b>; rel="next"`:       "/v2/a/tags/list?n=2&last=b",
		`<x>; rel="prev", <y,z>; title="a, b"; rel=next`: "y,z",
		`<x>; rel="prev next"`:                           "x",
		`<x>; REL=NEXT`:                                  "x",
		`<x>; rel="nextone"`:                             "",
		`<x`:                                             "",
		`x; rel=next`:                                    "",
		`<>; rel=next`:                                   "",
		`<x>; title=">, <evil>; rel=next", <y>; rel="next"; a="b"`: "y",
	} {
		if got := nextLink([]string{text}); got != want {
			t.Errorf("nextLink(%q) = %q; want %q", text, got, want)
		}
	}
}

func TestRateLimitHeadersAreReadAsDockerHubWritesThem(t *testing.T) {
	for text, want := range map[string]struct {
		n      int64
		window time.Duration
	}{"100;w=21600": {100, 6 * time.Hour}, "76": {76, 0}, "5; w=x": {5, 0}, "5;w=99999999999999": {5, 0}} {
		if n, window, ok := parseRateLimit(text); !ok || n != want.n || window != want.window {
			t.Errorf("parseRateLimit(%q) = %d, %v, %v; want %v", text, n, window, ok, want)
		}
	}
	for _, text := range []string{"", "-1", ";w=1", "many"} {
		if n, _, ok := parseRateLimit(text); ok {
			t.Errorf("parseRateLimit(%q) = %d; want none", text, n)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/100")
	f.Add("bytes 1-1/*")
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseContentRange(text)
		if !ok {
			return
		}
		if r.first < 0 || r.length < 1 || r.first > math.MaxInt64-r.length+1 || r.total >= 0 && r.total < r.first+r.length {
			t.Fatalf("parseContentRange(%q) = %+v", text, r)
		}
		total := "*"
		if r.total >= 0 {
			total = strconv.FormatInt(r.total, 10)
		}
		again, ok := parseContentRange("bytes " + strconv.FormatInt(r.first, 10) + "-" + strconv.FormatInt(r.first+r.length-1, 10) + "/" + total)
		if !ok || again != r {
			t.Fatalf("%+v reads back as %+v, %v", r, again, ok)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("60")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		wait, ok := parseRetryAfter(text, now)
		if wait < 0 || wait > maxRetryAfter || !ok && wait != 0 {
			t.Fatalf("parseRetryAfter(%q) = %v, %v", text, wait, ok)
		}
		if again, _ := parseRetryAfter(strconv.FormatInt(int64(wait/time.Second), 10), now); again != wait.Truncate(time.Second) {
			t.Fatalf("%v reads back as %v", wait, again)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/a/tags/list?n=2&last=b>; rel="next"`)
	f.Add(`<x>; title="a, b"; rel=prev, <y>; rel="next"`)
	f.Fuzz(func(t *testing.T, text string) {
		target := nextLink([]string{text})
		if !strings.Contains(text, target) || strings.Contains(target, ">") {
			t.Fatalf("nextLink(%q) = %q", text, target)
		}
		if target == "" {
			return
		}
		if again := nextLink([]string{"<" + target + `>; rel="next"`}); again != target {
			t.Fatalf("%q reads back as %q", target, again)
		}
	})
}
