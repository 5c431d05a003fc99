package trust

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestATokenSurvivesItsText(t *testing.T) {
	token := newToken(Fingerprint{1, 2, 3})
	text := token.Text()
	if got, err := ParseToken(" " + text + "\n"); err != nil || got != token {
		t.Errorf("ParseToken(%q) = %v, %v; want %v", text, got, err, token)
	}
	if len(text) != 108 || strings.ContainsAny(text, " +/=") {
		t.Errorf("Text() = %q, %d characters; want 108 that need no quoting", text, len(text))
	}
	if token.Fingerprint() != (Fingerprint{1, 2, 3}) || len(token.ID()) != 16 {
		t.Errorf("Fingerprint() = %s, ID() = %q", token.Fingerprint(), token.ID())
	}
}

func TestATokenThatIsNotOne(t *testing.T) {
	text := newToken(Fingerprint{}).Text()
	second := "p2p1.Ag" + text[len("p2p1.Ag"):]
	for _, bad := range []string{
		"", "p2p1.", text[:len(text)-1], text + "A", "p2p2." + text[5:], strings.ToUpper(text), second,
		text[:50] + "\n" + text[50:], text[:20] + "!" + text[21:], text[:len(text)-4] + "AAAA",
	} {
		if token, err := ParseToken(bad); err == nil {
			t.Errorf("ParseToken(%q) = %v; want an error", bad, token)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[10:20]) {
			t.Errorf("ParseToken(%q) shows it: %v", bad, err)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	token, key := newToken(Fingerprint{}), newSealKey()
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "token", token, "pointer", &token, "key", key, "list", []any{token, key})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%T"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, token, &token, key, []any{token, struct{ A SealKey }{key}})
	}
	raw, err := json.Marshal(map[string]any{"token": token, "pointer": &token})
	if err != nil {
		t.Fatal(err)
	}
	log.Write(raw)
	decimal := strings.Trim(fmt.Sprint(token.secret[:4]), "[]")
	for _, secret := range []string{
		token.Text()[20:40], hex.EncodeToString(token.secret[:4]), strings.ToUpper(hex.EncodeToString(token.secret[:4])), decimal,
		strings.ReplaceAll(decimal, " ", ","), hex.EncodeToString(key[:4]), strings.Trim(fmt.Sprint(key[:4]), "[]"),
	} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q was shown: %s", secret, &log)
		}
	}
	if !strings.Contains(log.String(), token.ID()) {
		t.Error("a token does not show which it is")
	}
}

func TestATokenProvesItself(t *testing.T) {
	a, b := newToken(Fingerprint{}), newToken(Fingerprint{})
	proof := a.proof()
	if !a.proves(proof[:]) || b.proves(proof[:]) || a.proves(nil) || a.proves(a.secret[:]) {
		t.Errorf("proves() = %v, of another %v, of nothing %v, of the secret %v; want true, false, false, false",
			a.proves(proof[:]), b.proves(proof[:]), a.proves(nil), a.proves(a.secret[:]))
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(Fingerprint{}).Text())
	f.Add(Token{}.Text())
	f.Add("p2p1.")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if got := token.Text(); got != strings.TrimSpace(text) {
			t.Errorf("ParseToken(%q).Text() = %q; want the same", text, got)
		}
		if again, err := ParseToken(token.Text()); err != nil || again != token {
			t.Errorf("ParseToken(%q) = %v, %v; want %v", token.Text(), again, err, token)
		}
	})
}
