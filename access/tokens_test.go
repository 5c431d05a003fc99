package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/pullonce/pullonce/access"
)

// tokenService hands out tokens as an external one does.
type tokenService struct {
	t         testing.TB
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
	id        string
}

func newTokenService(t testing.TB) tokenService {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return tokenService{t, jose.ES256, key, ""}
}

// keysFile has the service's key as a public key in PEM form.
func (s tokenService) keysFile() string {
	s.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		s.t.Fatal(err)
	}
	return write(s.t, "keys.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

type claims map[string]any

// grant is what a token says that allows actions in a repository, with changes.
func grant(name string, actions []string, changes ...claims) claims {
	now := time.Now()
	c := claims{
		"iss": "auth.example", "aud": "farm", "sub": "ci", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"access": []any{map[string]any{"type": "repository", "name": name, "actions": actions}},
	}
	for _, change := range changes {
		for key, value := range change {
			if c[key] = value; value == nil {
				delete(c, key)
			}
		}
	}
	return c
}

func (s tokenService) token(c claims) access.Credential {
	s.t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if s.id != "" {
		options = options.WithHeader("kid", s.id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: s.key}, options)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any(c)).Serialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return access.Credential("Bearer " + text)
}

func openTokens(t testing.TB, keysFile string) *access.Tokens {
	t.Helper()
	tokens, err := access.OpenTokens(access.TokenService{Realm: "https://auth.example/token", Service: "farm", Issuer: "auth.example", KeysFile: keysFile})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// withTokens is a policy that lets nobody do anything without a token.
func withTokens(t testing.TB, keysFile string) *access.Policy {
	t.Helper()
	return policy(access.Parts{Tokens: openTokens(t, keysFile), Rights: access.Rights{{Match: pattern(t, "*")}}})
}

func bearer(c access.Credential) access.Caller { return access.Caller{Authorization: c} }

func TestATokenAllowsWhatItSays(t *testing.T) {
	s := newTokenService(t)
	p := withTokens(t, s.keysFile())
	for _, c := range []struct {
		name    string
		actions []string
		allowed access.Action
	}{
		{"team/app", []string{"pull"}, access.Read | access.List},
		{"farm.internal/team/app", []string{"pull", "push"}, access.Read | access.Write | access.List},
		{"team/app", []string{"delete"}, access.Delete},
		{"team/app", []string{"*"}, access.Read | access.Write | access.Delete | access.List},
		{"team/app", []string{"else"}, 0},
		{"team", []string{"*"}, 0},
		{"team/app/debug", []string{"*"}, 0},
		{"farm.internal/farm.internal/team/app", []string{"*"}, 0},
		{"", []string{"*"}, 0},
	} {
		token := s.token(grant(c.name, c.actions))
		for _, action := range []access.Action{access.Read, access.Write, access.Delete, access.List} {
			err := p.Allow(t.Context(), bearer(token), "team/app", action)
			if (err == nil) != (c.allowed&action != 0) {
				t.Errorf("%v of %s by a token for %v of %q: %v", action, "team/app", c.actions, c.name, err)
			}
			wantChallenge(t, err, `error="insufficient_scope"`)
		}
	}
}

// wantChallenge checks that an error, if it is one, has a challenge with that text.
func wantChallenge(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil {
		return
	}
	unauthorized, ok := errors.AsType[*access.UnauthorizedError](err)
	if !ok || !strings.Contains(unauthorized.Challenge, text) {
		t.Errorf("error %#v; want a challenge with %s", err, text)
	}
}

func TestTheChallengeTellsWhereToGetATokenForWhat(t *testing.T) {
	p := withTokens(t, newTokenService(t).keysFile())
	for action, scope := range map[access.Action]string{access.Read: "pull", access.Write: "pull,push", access.Delete: "delete"} {
		err := p.Allow(t.Context(), access.Caller{}, "team/app", action)
		unauthorized, ok := errors.AsType[*access.UnauthorizedError](err)
		want := `Bearer realm="https://auth.example/token",service="farm",scope="repository:team/app:` + scope + `"`
		if !ok || unauthorized.Challenge != want {
			t.Errorf("%v without a token: %#v; want challenge %s", action, err, want)
		}
	}
	unauthorized, ok := errors.AsType[*access.UnauthorizedError](p.Login(t.Context(), access.Caller{}))
	if want := `Bearer realm="https://auth.example/token",service="farm"`; !ok || unauthorized.Challenge != want {
		t.Errorf("Login without a token: %+v; want challenge %s", unauthorized, want)
	}
}

func TestTokensThatAreNotRightAreRefused(t *testing.T) {
	s, other := newTokenService(t), newTokenService(t)
	p := withTokens(t, s.keysFile())
	all := []string{"*"}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := string(s.token(grant("team/app", all)))
	for name, token := range map[string]access.Credential{
		"of another key":           other.token(grant("team/app", all)),
		"by another algorithm":     tokenService{t, jose.RS256, rsaKey, ""}.token(grant("team/app", all)),
		"of another issuer":        s.token(grant("team/app", all, claims{"iss": "auth.example.org"})),
		"of no issuer":             s.token(grant("team/app", all, claims{"iss": nil})),
		"for another service":      s.token(grant("team/app", all, claims{"aud": "other"})),
		"for other services":       s.token(grant("team/app", all, claims{"aud": []string{"other", "farms"}})),
		"for no service":           s.token(grant("team/app", all, claims{"aud": nil})),
		"expired":                  s.token(grant("team/app", all, claims{"exp": ago(2 * time.Minute)})),
		"that never expires":       s.token(grant("team/app", all, claims{"exp": nil})),
		"not valid yet":            s.token(grant("team/app", all, claims{"nbf": ago(-2 * time.Minute)})),
		"with a flipped bit":       access.Credential(good[:len(good)-10] + flipped(good[len(good)-10:])),
		"without its signature":    access.Credential(good[:strings.LastIndexByte(good, '.')+1]),
		"signed by nobody":         unsigned(t, grant("team/app", all)),
		"signed with a public key": signedByPublic(t, s, grant("team/app", all)),
		"that is none":             "Bearer abc",
		"that is a password":       basic("ci", "x"),
	} {
		for range 2 { // nothing of it is remembered
			err := p.Allow(t.Context(), bearer(token), "team/app", access.Read)
			if err == nil {
				t.Errorf("a token %s is taken", name)
			}
			if name != "that is a password" {
				wantChallenge(t, err, `error="invalid_token"`)
			}
		}
	}
	for name, token := range map[string]access.Credential{
		"for several services":         s.token(grant("team/app", all, claims{"aud": []string{"other", "farm"}})),
		"of a clock a bit behind":      s.token(grant("team/app", all, claims{"exp": ago(30 * time.Second)})),
		"of a clock a bit ahead":       s.token(grant("team/app", all, claims{"nbf": ago(-30 * time.Second)})),
		"with an id that is not known": tokenService{t, jose.ES256, s.key, "x"}.token(grant("team/app", all)),
	} {
		if err := p.Allow(t.Context(), bearer(token), "team/app", access.Read); err != nil {
			t.Errorf("a token %s: %v", name, err)
		}
	}
}

func flipped(text string) string {
	if text[0] == 'A' {
		return "B" + text[1:]
	}
	return "A" + text[1:]
}

func part(t testing.TB, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func unsigned(t testing.TB, c claims) access.Credential {
	return access.Credential("Bearer " + part(t, claims{"alg": "none", "typ": "JWT"}) + "." + part(t, c) + ".")
}

// signedByPublic is a token that has the service's public key for a shared secret, which some verifiers once took.
func signedByPublic(t testing.TB, s tokenService, c claims) access.Credential {
	t.Helper()
	raw, err := os.ReadFile(s.keysFile())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: raw}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any(c)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return access.Credential("Bearer " + text)
}

func TestARememberedTokenEndsWhenItExpires(t *testing.T) {
	s := newTokenService(t)
	file := s.keysFile()
	synctest.Test(t, func(t *testing.T) {
		p := withTokens(t, file)
		token := s.token(grant("team/app", []string{"pull"}, claims{"exp": time.Now().Add(10 * time.Second).Unix()}))
		read := func() error { return p.Allow(t.Context(), bearer(token), "team/app", access.Read) }
		if err := read(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(69 * time.Second) // with a minute for the clocks
		if err := read(); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := read(); err == nil {
			t.Error("a token is taken after its end")
		}
	})
}

func TestKeysOfAllKindsAndForms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	services := []tokenService{{t, jose.ES384, ec, "a"}, {t, jose.RS256, rsaKey, "b"}, {t, jose.PS512, rsaKey, ""}, {t, jose.EdDSA, edwards, "c"}}
	var set jose.JSONWebKeySet
	var certificates strings.Builder
	for i, key := range []crypto.Signer{ec, rsaKey, edwards} {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: string(rune('a' + i)), Use: "sig"})
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(raw), certificates.String()} {
		p := withTokens(t, write(t, "keys", text))
		for _, s := range services {
			if err := p.Allow(t.Context(), bearer(s.token(grant("team/app", []string{"pull"}))), "team/app", access.Read); err != nil {
				t.Errorf("a token by %s, keys %.12s…: %v", s.algorithm, text, err)
			}
		}
	}
	swapped := tokenService{t, jose.EdDSA, edwards, "a"}.token(grant("team/app", []string{"pull"}))
	if err := withTokens(t, write(t, "keys", string(raw))).Allow(t.Context(), bearer(swapped), "team/app", access.Read); err == nil {
		t.Error("a token is taken that names another key than its own")
	}
}

func TestKeysThatCannotBeTrustedAreRefused(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	privateJWK, err := jose.JSONWebKey{Key: ec}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	modulus := base64.RawURLEncoding.EncodeToString(append([]byte{0xff}, make([]byte, 127)...))
	one := `{"kty":"OKP","crv":"Ed25519","x":"` + strings.Repeat("A", 43) + `"}`
	for name, text := range map[string]string{
		"none at all":          "",
		"text":                 "hello",
		"an empty set":         `{"keys":[]}`,
		"no JSON":              `{"keys":`,
		"a private key":        string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"a private key in set": `{"keys":[` + string(privateJWK) + `]}`,
		"a shared secret":      `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
		"RSA of 1024 bits":     `{"keys":[{"kty":"RSA","n":"` + modulus + `","e":"AQAB"}]}`,
		"a key to encrypt":     `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","x":"` + strings.Repeat("A", 43) + `"}]}`,
		"too many":             `{"keys":[` + strings.Repeat(one+",", 16) + one + `]}`,
		"no key in PEM":        string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
	} {
		_, err := access.OpenTokens(access.TokenService{Realm: "r", Service: "s", Issuer: "i", KeysFile: write(t, "keys", text)})
		if err == nil {
			t.Errorf("keys that are %s are taken", name)
		} else if !strings.Contains(err.Error(), "keys of the token service") {
			t.Errorf("keys that are %s: %v; want it said what they are of", name, err)
		}
	}
	if _, err := access.OpenTokens(access.TokenService{Realm: `a"b`, Service: "s", Issuer: "i"}); err == nil {
		t.Error("a realm with a quote is taken")
	}
}

func TestOtherKeysHoldAtOnce(t *testing.T) {
	old, young := newTokenService(t), newTokenService(t)
	file := old.keysFile()
	p := withTokens(t, file)
	token := old.token(grant("team/app", []string{"pull"}))
	read := func(c access.Credential) error { return p.Allow(t.Context(), bearer(c), "team/app", access.Read) }
	if err := read(token); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(young.keysFile())
	if err != nil {
		t.Fatal(err)
	}
	for text, wantErr := range map[string]bool{"nonsense": true, string(raw): false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.Reload(); (err != nil) != wantErr {
			t.Errorf("Reload of %.10q… = %v", text, err)
		}
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := read(token); err == nil {
		t.Error("a token of the old key is still taken")
	}
	if err := read(young.token(grant("team/app", []string{"pull"}))); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}
