package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A pki is a site's own: a root, and an authority below it that signs.
type pki struct {
	root, middle       *x509.Certificate
	rootKey, middleKey *ecdsa.PrivateKey
}

func newPKI(t *testing.T) pki {
	t.Helper()
	var p pki
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "site"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	p.rootKey = newKey(t)
	p.root = sign(t, template, template, p.rootKey, p.rootKey)
	template.Subject.CommonName, p.middleKey = "site's hosts", newKey(t)
	p.middle = sign(t, template, p.root, p.middleKey, p.rootKey)
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue writes a certificate of the site for cn and its key.
func (p pki) issue(t *testing.T, f Files, cn string, uris ...*url.URL) {
	t.Helper()
	key := newKey(t)
	cert := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: cn}, URIs: uris, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}, p.middle, key, p.middleKey)
	der, err := x509.MarshalECPrivateKey(key) // sites have keys of all kinds
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, f.Key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	putFile(t, f.Cert, encodeCertificates([][]byte{cert.Raw, p.middle.Raw}))
}

func putFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// A file that is written twice within the clock's grain has changed all the same.
	if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// files are those of a new node of the site.
func (p pki) files(t *testing.T, gossipKey []byte) Files {
	t.Helper()
	dir := t.TempDir()
	f := Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), GossipKey: filepath.Join(dir, "gossip")}
	putFile(t, f.CA, encodeCertificates([][]byte{p.root.Raw}))
	putFile(t, f.GossipKey, []byte(hex.EncodeToString(gossipKey)+"\n"))
	return f
}

func TestASiteBringsItsOwnCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site, gossipKey := newPKI(t), newGossipKey()
		node := func(cn string, uris ...*url.URL) *Trust {
			f := site.files(t, gossipKey)
			site.issue(t, f, cn, uris...)
			return open(t, Config{Mode: Own, Files: f})
		}
		a, b := node("a.example"), node("b.example")
		if a.Node() != "a.example" || !a.Member() || !bytes.Equal(a.GossipKeys()[0], gossipKey) || a.Mode() != Own {
			t.Errorf("node %q, member %v, gossip keys %x; want a.example, a member, %x", a.Node(), a.Member(), a.GossipKeys(), gossipKey)
		}
		if p := mustConnect(t, a, b); p.dialedID != "b.example" || p.acceptedID != "a.example" {
			t.Errorf("Client() = %q, Server() = %q; want b.example, a.example", p.dialedID, p.acceptedID)
		}
		revoke(t, a, "b.example")
		if p := connect(t, b, a, ""); p.acceptedError == nil {
			t.Error("a revoked node was let in")
		}
		if !openAgain(a).Revoked("b.example") || len(openAgain(a).State().CAs) != 1 {
			t.Error("a restart has forgotten who is revoked, or the authority")
		}
		raw, err := a.disk.read(stateFile)
		if err != nil || bytes.Contains(raw, []byte("gossip_keys")) {
			t.Errorf("the site's secrets were copied: %v", err)
		}

		// Where certificates name the farm, those that do not are somebody else's.
		named := node("x", memberURI(testFarm, "c"))
		if named.Node() != "c" {
			t.Errorf("node %q; want c, as the URI says", named.Node())
		}
		if p := connect(t, b, named, ""); p.acceptedError == nil || count(named, badCertificate) != 1 {
			t.Errorf("Server() of a site's certificate that names no farm = %v; want it refused", p.acceptedError)
		}
	})
}

func TestFilesOfASiteAreReadAgainWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := newPKI(t)
		f := site.files(t, newGossipKey())
		site.issue(t, f, "a")
		a := open(t, Config{Mode: Own, Files: f, Node: "a"})
		f2 := site.files(t, newGossipKey())
		site.issue(t, f2, "b")
		b := open(t, Config{Mode: Own, Files: f2})
		p := mustConnect(t, a, b)

		ctx, stop := context.WithCancel(t.Context())
		told := make(chan State, 10)
		done := make(chan error, 1)
		go func() { done <- a.tend(ctx, func(s State) { told <- s }) }()

		first := a.Certificate()
		time.Sleep(time.Minute)
		site.issue(t, f, "a")
		time.Sleep(time.Minute)
		if a.Certificate().Equal(first) {
			t.Error("a certificate that has changed is not taken")
		}
		if err := p.talks(t); err != nil {
			t.Errorf("a change of the certificate has dropped a connection: %v", err)
		}
		if len(told) != 0 {
			t.Error("a new certificate was told of as another state")
		}

		// Between a new certificate and its key, and with a certificate of somebody else, the old ones hold.
		second := a.Certificate()
		key, err := os.ReadFile(f.Key)
		if err != nil {
			t.Fatal(err)
		}
		site.issue(t, f, "a")
		putFile(t, f.Key, key)
		time.Sleep(time.Minute)
		if !a.Certificate().Equal(second) {
			t.Error("a certificate without its key was taken")
		}
		site.issue(t, f, "b")
		if _, err := a.Reload(); err == nil || a.Node() != "a" {
			t.Errorf("Reload() of another node's certificate = %v; want an error", err)
		}
		site.issue(t, f, "a")

		keys := [][]byte{newGossipKey(), newGossipKey()}
		putFile(t, f.GossipKey, []byte(base64.StdEncoding.EncodeToString(keys[0])+"\n\n"+hex.EncodeToString(keys[1])))
		time.Sleep(time.Minute)
		if s := <-told; !sameKeys(s.GossipKeys, keys) || !sameKeys(a.GossipKeys(), keys) {
			t.Errorf("gossip keys after a change of the file: %x; want %x", a.GossipKeys(), keys)
		}
		stop()
		<-done
		if err := a.SetCertificate([][]byte{first.Raw}); err == nil {
			t.Error("a certificate was taken although files say which it is")
		}
		if err := a.Found(); err == nil {
			t.Error("a farm was founded although its authority comes from files")
		}
	})
}

func TestFilesOfASiteThatDoNotFit(t *testing.T) {
	site := newPKI(t)
	for name, change := range map[string]func(f Files){
		"no authority":              func(f Files) { putFile(t, f.CA, []byte("junk")) },
		"an authority of others":    func(f Files) { putFile(t, f.CA, encodeCertificates([][]byte{newPKI(t).root.Raw})) },
		"no certificate":            func(f Files) { putFile(t, f.Cert, nil) },
		"a certificate with no way": func(f Files) { putFile(t, f.CA, encodeCertificates([][]byte{site.middle.Raw, site.root.Raw}[:0])) },
		"no key":                    func(f Files) { putFile(t, f.Key, []byte("junk")) },
		"no gossip key":             func(f Files) { putFile(t, f.GossipKey, nil) },
		"a short gossip key":        func(f Files) { putFile(t, f.GossipKey, []byte("0123")) },
		"a farm of another name":    func(f Files) { site.issue(t, f, "a", memberURI("another", "a")) },
		"no name":                   func(f Files) { site.issue(t, f, "") },
	} {
		f := site.files(t, newGossipKey())
		site.issue(t, f, "a")
		change(f)
		if _, err := Open(Config{Dir: t.TempDir(), Farm: testFarm, Mode: Own, Files: f}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("Open with %s = nil; want an error", name)
		}
	}
}

func TestASecretThatOthersMayReadIsSaid(t *testing.T) {
	site := newPKI(t)
	f := site.files(t, newGossipKey())
	site.issue(t, f, "a")
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if _, err := Open(Config{Dir: t.TempDir(), Farm: testFarm, Mode: Own, Files: f}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "others may read a secret") != 1 || !strings.Contains(got, f.Key) {
		t.Errorf("the log says %q; want one warning of %s", got, f.Key)
	}
}
