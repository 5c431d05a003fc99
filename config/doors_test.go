package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
)

// protecting has a certificate, its key, users, the keys of a token service, and a token, as files.
func protecting(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hashed, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		"key":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"users": []byte("alice:" + string(hashed) + "\n"), "admin": []byte(strings.Repeat("a", 20) + "\n"), "short": []byte("a\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const protected = `registry:
  listen: ["127.0.0.1:5000", "10.0.0.5:5000"]
  tls: {cert_file: DIR/crt, key_file: DIR/key}
  users_file: DIR/users
  token: {realm: "https://auth.example/token", service: farm, issuer: auth.example, keys_file: DIR/crt}
  rights:
  - {match: team/*, who: [alice, bob], allow: [read, write]}
  - {match: "*", who: anonymous, allow: read}
  - {match: closed/app, who: [], allow: []}
admin: {token_file: DIR/admin}
`

func TestWhatProtectsTheRegistryIsRead(t *testing.T) {
	dir := protecting(t)
	c := load(t, config.Sources{File: file(t, strings.ReplaceAll(protected, "DIR", dir))})
	pattern := func(text string) access.Pattern {
		p, err := access.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := config.Registry{
		Listen: c.Registry.Listen, FirstByteTimeout: c.Registry.FirstByteTimeout, StallTimeout: c.Registry.StallTimeout, ShutdownGrace: c.Registry.ShutdownGrace,
		TLS:       config.TLS{Mode: "files", CertFile: dir + "/crt", KeyFile: dir + "/key"},
		UsersFile: dir + "/users",
		Token:     access.TokenService{Realm: "https://auth.example/token", Service: "farm", Issuer: "auth.example", KeysFile: dir + "/crt"},
		Rights: access.Rights{
			{Match: pattern("team/*"), Who: []string{"alice", "bob"}, Allow: access.Read | access.Write},
			{Match: pattern("*"), Who: []string{"anonymous"}, Allow: access.Read},
			{Match: pattern("closed/app")},
		},
	}
	if !reflect.DeepEqual(c.Registry, want) || c.Admin.TokenFile != dir+"/admin" {
		t.Errorf("Load gives\n%+v, token file %s; want\n%+v", c.Registry, c.Admin.TokenFile, want)
	}
	s := config.Sources{File: file(t, ""), Environ: []string{
		"P2PD_REGISTRY_USERS_FILE=" + dir + "/users", "P2PD_REGISTRY_RIGHTS=" + `[{"match":"team/*","who":["alice","bob"],"allow":["read","write"]}]`,
	}}
	if c := load(t, s); !reflect.DeepEqual(c.Registry.Rights, want.Rights[:1]) {
		t.Errorf("Load of rights in the environment gives %+v; want %+v", c.Registry.Rights, want.Rights[:1])
	}
}

func TestBeyondLoopbackTheRegistryNeedsTLSOrAWord(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:5000", "10.0.0.5:5000", "[::]:5000", "127.0.0.1:5000, 10.0.0.5:5000"} {
		s := config.Sources{File: file(t, "registry: {listen: ["+strings.ReplaceAll(`"`+listen+`"`, ", ", `", "`)+"]}")}
		if _, err := config.Load(s); err == nil || !strings.Contains(err.Error(), "registry.tls.mode: off") || !strings.Contains(err.Error(), "p2pd.yaml:1: registry.listen") {
			t.Errorf("Load of listen %s = %v; want an error that says what to set", listen, err)
		}
		for _, mode := range []string{"off", "farm"} {
			s.Environ = []string{"P2PD_REGISTRY_TLS_MODE=" + mode}
			if c := load(t, s); c.Registry.TLS.Mode != mode {
				t.Errorf("mode %s became %q", mode, c.Registry.TLS.Mode)
			}
		}
	}
	for _, mode := range []string{"off", "false"} { // as YAML 1.1 reads off
		load(t, config.Sources{File: file(t, "registry: {listen: '0.0.0.0:5000', tls: {mode: "+mode+"}}")})
	}
}

func TestWhatProtectsTheRegistryIsHeldAgainstItself(t *testing.T) {
	dir := protecting(t)
	for text, want := range map[string]string{
		"registry: {tls: {cert_file: DIR/crt}}":                                                "registry.tls.key_file: is missing",
		"registry: {tls: {mode: files}}":                                                       "registry.tls.cert_file: is missing",
		"registry: {tls: {mode: off, cert_file: DIR/crt, key_file: DIR/key}}":                  "registry.tls.cert_file: is for registry.tls.mode files",
		"registry: {tls: {cert_file: DIR/crt, key_file: DIR/users}}":                           "registry.tls.cert_file: tls: ",
		"registry: {tls: {cert_file: DIR/none, key_file: DIR/key}}":                            "no such file",
		"registry: {tls: {mode: farm}}\ntrust: {mode: none}":                                   "registry.tls.mode: farm needs a CA of the farm",
		"registry: {tls: {mode: on}}":                                                          "want off or files or farm",
		"registry: {tls: on}":                                                                  "registry.tls: want keys below it, such as mode",
		"registry: {users_file: DIR/crt}":                                                      "registry.users_file: read users: ",
		"registry: {users_file: DIR/none}":                                                     "registry.users_file: read users: ",
		"registry: {token: {realm: 'https://a', service: s, issuer: i}}":                       "registry.token.keys_file: is missing",
		"registry: {token: {realm: 'https://a', service: s, issuer: i, keys_file: DIR/key}}":   "want certificates or public keys",
		"registry: {token: {realm: 'x', service: s, issuer: i, keys_file: DIR/crt}}":           "registry.token.realm: is no token service",
		"registry: {token: {realm: 'https://a', service: s, issuer: i, key_file: DIR/crt}}":    "registry.token.key_file: no such key",
		"registry: {rights: [{match: a, who: [b], allow: [read]}]}":                            "registry.rights: there is nobody to log in as",
		"registry:\n  users_file: DIR/users\n  rights:\n  - {match: a, who: [b]}":              "p2pd.yaml:4: registry.rights[0]: allow is missing",
		"registry: {users_file: DIR/users, rights: [{match: a*, who: b, allow: read}]}":        "registry.rights[0].match: pattern",
		"registry: {users_file: DIR/users, rights: [{match: [a], who: b, allow: read}]}":       "registry.rights[0].match: want one value",
		"registry: {users_file: DIR/users, rights: [{match: a, who: '', allow: read}]}":        "registry.rights[0].who: has an empty name",
		"registry: {users_file: DIR/users, rights: [{match: a, who: b, allow: [read, all]}]}":  `registry.rights[0].allow: "all": want read, write or delete`,
		"registry: {users_file: DIR/users, rights: [{match: a, who: b, allow: read, x: y}]}":   "registry.rights[0].x: no such key",
		"registry: {users_file: DIR/users, rights: [{match: a, match: b, who: b, allow: []}]}": "registry.rights[0].match: was said already",
		"registry: {users_file: DIR/users, rights: {match: a}}":                                "registry.rights: want a list of rules",
		"registry: {users_file: DIR/users, rights: [a]}":                                       "registry.rights[0]: want keys and values",
		"registry: {users_file: DIR/users, rights: [{match: a, who: {b: c}, allow: read}]}":    "registry.rights[0].who: want a value",
		"admin: {token_file: DIR/none}":                                                        "admin.token_file: open ",
		"admin: {token_file: DIR/short}":                                                       "could be guessed",
	} {
		_, err := config.Load(config.Sources{File: file(t, strings.ReplaceAll(text, "DIR", dir))})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s) = %v; want an error with %q", text, err, want)
		}
	}
	s := config.Sources{File: file(t, ""), Environ: []string{`P2PD_REGISTRY_RIGHTS=[{"match":"a","who":"b","allow":"all"}]`}}
	if _, err := config.Load(s); err == nil || !strings.Contains(err.Error(), `environment P2PD_REGISTRY_RIGHTS: [0].allow: "all"`) {
		t.Errorf("Load of wrong rights in the environment = %v", err)
	}
}
