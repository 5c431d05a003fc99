package upstream

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// FuzzChallenges holds that what is accepted is bounded, and reads back as it was when it is written for clients.
func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"`)
	f.Add(`Basic realm="a\"b", Negotiate abc==, Bearer realm=x`)
	f.Add(`Bearer realm="` + strings.Repeat(`\"`, 100) + `",service="\\`)
	f.Fuzz(func(t *testing.T, text string) {
		size := 0
		for _, c := range parseChallenges([]string{text, text}) {
			size += len(c.scheme) + len(c.realm) + len(c.service) + len(c.scope)
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Fatalf("parseChallenges(%q) has scheme %q", text, c.scheme)
			}
			again := parseChallenges([]string{c.scheme + " realm=" + quoted(c.realm) + ", service=" + quoted(c.service) + ", scope=" + quoted(c.scope)})
			if 2*(len(c.realm)+len(c.service)+len(c.scope))+100 < maxChallengeBytes && (len(again) != 1 || again[0] != c) {
				t.Fatalf("%+v reads back as %+v", c, again)
			}
			c.scheme = schemeBearer
			written := c.header()
			if written == "" || len(written) > maxChallengeBytes {
				continue
			}
			if strings.ContainsAny(written, "\r\n\x00") {
				t.Fatalf("%+v is written as %q", c, written)
			}
			if again := parseChallenges([]string{written}); len(again) != 1 || again[0] != c {
				t.Fatalf("%+v is written as %q and reads back as %+v", c, written, again)
			}
		}
		if size > maxChallengeBytes {
			t.Fatalf("parseChallenges of %d bytes gives %d", 2*len(text), size)
		}
	})
}

// FuzzTokenAnswer holds that a token that is accepted can be sent, for a time that makes sense, and reads back.
func FuzzTokenAnswer(f *testing.F) {
	f.Add(`{"token":"abc","expires_in":300,"issued_at":"2026-01-02T03:04:05Z"}`)
	f.Add(`{"access_token":"abc","expires_in":1e300}`)
	f.Add(`{"token":"a b","expires_in":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		token, ttl, err := readToken(strings.NewReader(text))
		if err != nil {
			if token != "" || ttl != 0 {
				t.Fatalf("readToken(%q) = %q, %v with %v", text, token, ttl, err)
			}
			return
		}
		if !validToken(token) || ttl < 0 || ttl > maxTokenTTL {
			t.Fatalf("readToken(%q) = %q, %v", text, token, ttl)
		}
		raw, err := json.Marshal(map[string]any{"token": token, "expires_in": (ttl * 10 / 9).Seconds()})
		if err != nil {
			t.Fatal(err)
		}
		again, life, err := readToken(strings.NewReader(string(raw)))
		if off := life - ttl; again != token || err != nil || ttl > time.Microsecond && (off > time.Microsecond || off < -time.Microsecond) {
			t.Fatalf("%q for %v reads back as %q, %v, %v", token, ttl, again, life, err)
		}
	})
}

// FuzzBasic holds that credentials of a client that are accepted are sent as they came.
func FuzzBasic(f *testing.F) {
	f.Add("YW5uOnNlY3JldA==")
	f.Add("Og==")
	f.Add("YW5uOg==")
	f.Fuzz(func(t *testing.T, value string) {
		creds, err := parseBasic(value)
		if err != nil {
			if strings.Contains(err.Error(), value) && len(value) > 3 || !creds.none() {
				t.Fatalf("parseBasic(%q) = %v, %v", value, creds, err)
			}
			return
		}
		text, _ := strings.CutPrefix(basic(creds), "Basic ")
		again, err := parseBasic(text)
		if err != nil || again != creds || creds.Username == "" || strings.Contains(creds.Username, ":") {
			t.Fatalf("parseBasic(%q) = %q, which reads back as %q, %v", value, creds.Username, again.Username, err)
		}
	})
}

// FuzzProgramAnswer holds that what is accepted of a program's output can be sent, and that no error repeats it.
func FuzzProgramAnswer(f *testing.F) {
	f.Add(`{"username":"ann","password":"secret","expiry":"2026-01-02T03:04:05Z"}`, "")
	f.Add(`{"token":"abcdefgh"}`, "")
	f.Add("abcdefgh", "AWS")
	f.Fuzz(func(t *testing.T, text, user string) {
		creds, err := program{user, []string{"x"}}.read(strings.TrimSpace(text))
		if err != nil {
			if len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("read(%q) = %v", text, err)
			}
			return
		}
		if creds.none() || creds.Token != "" && !validToken(string(creds.Token)) {
			t.Fatalf("read(%q) = %+v", text, creds)
		}
	})
}
