package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func registryKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestNamesOfARegistry(t *testing.T) {
	n, err := parseNames([]string{"B.lan", "10.0.0.2", "b.lan", "a_b.x-y.9z", "::1", "10.0.0.1", "::ffff:10.0.0.1"})
	if got, want := n.list(), []string{"a_b.x-y.9z", "b.lan", "10.0.0.1", "10.0.0.2", "::1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("parseNames = %q, %v; want %q", got, err, want)
	}
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.lan", i)
	}
	if _, err := parseNames(many[:maxNames]); err != nil {
		t.Errorf("parseNames of %d = %v; want them", maxNames, err)
	}
	for _, wrong := range [][]string{
		nil, many,
		{""},
		{"."},
		{"a..b"},
		{"a."},
		{"*.lan"},
		{"-a"},
		{"a-"},
		{"a b"},
		{"a/b"},
		{"a:5000"},
		{"ä.lan"},
		{"a\x00"},
		{"1.2.3"},
		{"1.2.3.256"},
		{"0.0.0.0"},
		{"::"},
		{"fe80::1%eth0"},
		{"224.0.0.1"},
		{strings.Repeat("a", 64)},
		{strings.Repeat("a.", 126) + "ab"},
	} {
		if n, err := parseNames(wrong); err == nil {
			t.Errorf("parseNames(%.40q) = %.40q; want an error", wrong, n.list())
		}
	}
}

// longest are as many names as there may be, as long as they may be.
func longest() []string {
	label := strings.Repeat("a", maxLabel)
	list := make([]string, maxNames)
	for i := range list {
		list[i] = fmt.Sprintf("%s.%s.%s.%s", label, label, label, fmt.Sprintf("%02d", i)+label[:59])
	}
	return list
}

func TestTheLongestNamesFitIntoARequest(t *testing.T) {
	n, err := parseNames(longest())
	if err != nil {
		t.Fatal(err)
	}
	der, err := makeServeRequest(n, registryKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := parseServeRequest(der); err != nil || !r.names.equal(n) {
		t.Errorf("parseServeRequest of %d bytes = %v; want the names back", len(der), err)
	}
}

func TestRequestsForMoreThanNamesAreRefused(t *testing.T) {
	key := registryKey(t)
	member, err := url.Parse("pullonce://farm/node/x")
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = fmt.Sprintf("h%d", i)
	}
	good := x509.CertificateRequest{DNSNames: []string{"a.lan"}}
	for name, change := range map[string]func(*x509.CertificateRequest){
		"a member's URI": func(r *x509.CertificateRequest) { r.URIs = []*url.URL{member} },
		"an e-mail":      func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b.lan"} },
		"a common name":  func(r *x509.CertificateRequest) { r.Subject.CommonName = "node" },
		"an extension": func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		},
		"no names":       func(r *x509.CertificateRequest) { r.DNSNames = nil },
		"too many names": func(r *x509.CertificateRequest) { r.DNSNames = many },
		"a pattern":      func(r *x509.CertificateRequest) { r.DNSNames = []string{"*.lan"} },
		"capitals":       func(r *x509.CertificateRequest) { r.DNSNames = []string{"A.lan"} },
		"every address":  func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4zero} },
	} {
		template := good
		change(&template)
		der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseServeRequest(der); err == nil {
			t.Errorf("a request with %s was read", name)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &good, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseServeRequest(der); err != nil {
		t.Errorf("parseServeRequest = %v; want a request", err)
	}
	der[len(der)-1]++
	if _, err := parseServeRequest(der); err == nil {
		t.Error("a request of who has not the key was read")
	}
	if _, err := parseServeRequest(make([]byte, maxServeRequest+1)); err == nil {
		t.Error("a request that is too long was read")
	}
	node, err := makeRequest("node", key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseServeRequest(node); err == nil {
		t.Error("a node's request was taken for a registry's")
	}
}

// What is read of a request that anybody may have made is what the certificate says, and no more.
func FuzzServeRequest(f *testing.F) {
	key := registryKey(f)
	for _, list := range [][]string{{"a.lan"}, {"10.0.0.1", "::1", "localhost"}, longest()} {
		n, err := parseNames(list)
		if err != nil {
			f.Fatal(err)
		}
		der, err := makeServeRequest(n, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	i, err := newIssuer(testFarm, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := parseServeRequest(der)
		if err != nil {
			return
		}
		chain, err := i.issueServe(r, "node", Config{Farm: testFarm})
		if err != nil {
			t.Fatalf("issueServe of what was read = %v", err)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		n, err := namesOf(leaf.DNSNames, leaf.IPAddresses)
		if err != nil || !n.equal(r.names) || len(leaf.URIs)+len(leaf.EmailAddresses) != 0 {
			t.Errorf("certificate of %q, %v, %v, %v; want %q alone", n.list(), err, leaf.URIs, leaf.EmailAddresses, r.names.list())
		}
		if again, err := parseNames(n.list()); err != nil || !again.equal(n) {
			t.Errorf("parseNames of the names = %v, %v; want them again", again, err)
		}
	})
}
