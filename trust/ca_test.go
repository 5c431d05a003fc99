package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAuthorityIsForMembersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, farm := range []string{"pullonce", strings.Repeat("ü", 32)} {
			i, err := newIssuer(farm, 24*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			c := i.cert
			if !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || !strings.HasPrefix(c.Subject.CommonName, "pullonce farm "+farm[:2]) ||
				!c.NotBefore.Equal(time.Now().Add(-24*time.Hour)) || !c.NotAfter.Equal(time.Now().AddDate(10, 0, 0)) {
				t.Errorf("authority %q, path length %d, from %s to %s", c.Subject.CommonName, c.MaxPathLen, c.NotBefore, c.NotAfter)
			}
		}
	})
}

func TestACertificateSaysWhoForHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		c := first.Certificate()
		if c.Subject.CommonName != "one" || len(c.URIs) != 1 || c.URIs[0].String() != "pullonce://test_20farm/node/one" || c.IsCA {
			t.Errorf("certificate of %q, %v; want one, pullonce://test_20farm/node/one", c.Subject.CommonName, c.URIs)
		}
		if c.NotBefore != time.Now().Add(-24*time.Hour).UTC() || c.NotAfter != time.Now().Add(30*24*time.Hour).UTC() {
			t.Errorf("good from %s to %s; want a day back and 30 days", c.NotBefore, c.NotAfter)
		}
		// At the end of the authority's life members' certificates get shorter.
		time.Sleep(time.Until(time.Now().AddDate(10, 0, -3)))
		renew(t, first, first)
		if got, want := first.Certificate().NotAfter, authority(t, first).cert.NotAfter; !got.Equal(want) {
			t.Errorf("a certificate ends at %s; want %s, with the authority", got, want)
		}
	})
}

func TestNoTwoFarmsHaveOneURI(t *testing.T) {
	seen := make(map[string]string)
	for _, farm := range []string{
		"a", "A", "a.b", "a..b", ".a", "a.", ".", "a b", "a_20b", "a%20b", "a/b", "a_b", "a:1", "a@b", "ä", "[::1]", "a?b", "a#b", "xn--4ca", "…",
	} {
		text := memberURI(farm, "node").String()
		if other, ok := seen[text]; ok {
			t.Errorf("%q and %q both are %s", farm, other, text)
		}
		seen[text] = farm
		first := founder(t, Config{Node: "one/../#?%20 ü", Farm: farm})
		if id, err := memberOf(first.Certificate(), farm, false); err != nil || id != first.Node() {
			t.Errorf("memberOf() in farm %q = %q, %v; want %q", farm, id, err, first.Node())
		}
		if _, err := memberOf(first.Certificate(), farm+"x", false); err == nil {
			t.Errorf("a certificate of farm %q is good in another one", farm)
		}
	}
}

func TestWhatIsSealedOpensWithItsKeyAlone(t *testing.T) {
	key, plain := newSealKey(), []byte("secret")
	sealed := key.seal("authority", plain)
	if got, err := key.unseal("authority", sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unseal() = %q, %v; want %q", got, err, plain)
	}
	if bytes.Equal(sealed, key.seal("authority", plain)) {
		t.Error("sealing twice gives the same: the nonce is not random")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := key.unseal("authority", bad); !errors.Is(err, errSealed) {
			t.Errorf("unseal() with bit %d flipped = %q, %v; want %v", 8*i, got, err, errSealed)
		}
	}
	for name, f := range map[string]func() ([]byte, error){
		"with another key":  func() ([]byte, error) { return newSealKey().unseal("authority", sealed) },
		"for another thing": func() ([]byte, error) { return key.unseal("gossip key", sealed) },
		"of nothing":        func() ([]byte, error) { return key.unseal("authority", nil) },
		"cut short":         func() ([]byte, error) { return key.unseal("authority", sealed[:len(sealed)-1]) },
		"of one byte":       func() ([]byte, error) { return key.unseal("authority", sealed[:1]) },
	} {
		if got, err := f(); !errors.Is(err, errSealed) {
			t.Errorf("unseal() %s = %q, %v; want %v", name, got, err, errSealed)
		}
	}
}

func TestASealedAuthoritySignsAgain(t *testing.T) {
	first := founder(t, Config{Node: "one"})
	i := authority(t, first)
	key := newSealKey()
	sealed, err := i.sealed(key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := unsealIssuer(key, sealed)
	if err != nil || again.fingerprint() != i.fingerprint() || !again.key.Equal(i.key) {
		t.Errorf("unsealIssuer() = %v; want the same authority", err)
	}
	if _, err := unsealIssuer(newSealKey(), sealed); !errors.Is(err, errSealed) {
		t.Errorf("unsealIssuer() with another key = %v; want %v", err, errSealed)
	}
	if _, err := unsealIssuer(key, key.seal(sealedAuthority, []byte("junk"))); err == nil {
		t.Error("junk was unsealed as an authority")
	}
}

func TestARequestForMoreThanANodeIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := makeRequest("one", key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRequest(good)
	if err != nil || r.id() != "one" || !r.key.Equal(key.Public()) {
		t.Fatalf("parseRequest() = %q, %v; want one with its key", r.id(), err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	one := pkix.Name{CommonName: "one"}
	for name, c := range map[string]struct {
		template x509.CertificateRequest
		key      any
	}{
		"no id":         {x509.CertificateRequest{}, key},
		"a long id":     {x509.CertificateRequest{Subject: pkix.Name{CommonName: strings.Repeat("x", 65)}}, key},
		"unprintable":   {x509.CertificateRequest{Subject: pkix.Name{CommonName: "a\x00b"}}, key},
		"organisations": {x509.CertificateRequest{Subject: pkix.Name{CommonName: "one", Organization: []string{"x"}}}, key},
		"host names":    {x509.CertificateRequest{Subject: one, DNSNames: []string{"registry-1.docker.io"}}, key},
		"addresses":     {x509.CertificateRequest{Subject: one, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}, key},
		"P-384":         {x509.CertificateRequest{Subject: one}, large},
		"RSA":           {x509.CertificateRequest{Subject: one}, other},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c.template, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseRequest(der); err == nil {
			t.Errorf("parseRequest() with %s = %q; want an error", name, r.id())
		}
	}
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, der := range map[string][]byte{
		"nothing": nil, "junk": []byte("junk"), "a forged signature": forged, "more behind it": append(bytes.Clone(good), 0),
		"too much": make([]byte, maxRequest+1),
	} {
		if _, err := parseRequest(der); err == nil {
			t.Errorf("parseRequest() of %s = nil; want an error", name)
		}
	}
}

func TestANodeAsksForTheSameKeyEachTime(t *testing.T) {
	m := open(t, Config{Node: "one"})
	prints := make(map[[32]byte]bool)
	for range 3 {
		der, err := openAgain(m).request()
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		prints[r.keyPrint()] = true
	}
	first := founder(t, m.cfg)
	if !prints[keyPrintOf(first.Certificate())] || len(prints) != 1 {
		t.Errorf("%d keys were asked for; want one, that of the certificate", len(prints))
	}
}

func FuzzParseRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	i, err := newIssuer(testFarm, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	for _, id := range []string{"one", "Zürich 4", strings.Repeat("x", 64)} {
		der, err := makeRequest(id, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := parseRequest(der)
		if err != nil {
			return
		}
		chain, err := i.issue(r, Config{Farm: testFarm})
		if err != nil {
			t.Fatalf("issue() for the request %x = %v", der, err)
		}
		c, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		if id, err := memberOf(c, testFarm, false); err != nil || id != r.id() || keyPrintOf(c) != r.keyPrint() {
			t.Errorf("the certificate for the request of %q is for %q, %v", r.id(), id, err)
		}
	})
}
