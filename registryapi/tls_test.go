package registryapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/registryapi"
)

func tcp(t testing.TB, text string) *net.TCPAddr {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// writePair writes a certificate of that name and its key into dir.
func writePair(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", raw)
	return certFile, keyFile
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// elsewhere is a listener that says it listens beyond loopback.
type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5000} }

func TestBeyondLoopbackTheDoorSpeaksTLSAndOnLoopbackItDoesNot(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), "registry.example")
	certificate, err := registryapi.OpenCertificate(certFile, keyFile, quiet())
	if err != nil {
		t.Fatal(err)
	}
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	cfg := testConfig()
	cfg.Hosts = []string{"registry.example"}
	cfg.TLS = &tls.Config{GetCertificate: certificate.GetCertificate}
	server := registryapi.NewServer(cfg, newDoor(t, cfg, registry, nil), quiet())
	t.Cleanup(func() { _ = server.Close() })
	addresses := map[bool]string{}
	for _, remote := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[remote] = l.Addr().String()
		if remote {
			l = elsewhere{l}
		}
		go func() { _ = server.Serve(registryapi.Listener(cfg, l)) }()
	}
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(certFile)
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "registry.example"}, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	path := "/v2/library/app/blobs/" + img.layers[0].Digest.String()
	for url, host := range map[string]string{"http://" + addresses[false] + path: "localhost", "https://" + addresses[true] + path: "registry.example"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := client.Do(r)
		if err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || int64(len(body)) != img.layers[0].Size || resp.ProtoMajor != 1 {
			t.Errorf("GET %s: %d bytes by %s, %v; want %d by HTTP/1.1", url, len(body), resp.Proto, err, img.layers[0].Size)
		}
	}
	if resp, err := http.Get("http://" + addresses[true] + path); err == nil {
		if _ = resp.Body.Close(); resp.StatusCode == http.StatusOK {
			t.Error("without TLS the door beyond loopback gives a blob")
		}
	}
	_, err = tls.Dial("tcp", addresses[true], &tls.Config{RootCAs: pool, ServerName: "registry.example", MaxVersion: tls.VersionTLS11})
	if err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

// Who opens a connection and does no handshake is let go in the time that a request has.
func TestAHandshakeThatDoesNotComeIsCutOff(t *testing.T) {
	certFile, keyFile := writePair(t, t.TempDir(), "registry.example")
	synctest.Test(t, func(t *testing.T) {
		certificate, err := registryapi.OpenCertificate(certFile, keyFile, quiet())
		if err != nil {
			t.Fatal(err)
		}
		cfg := testConfig()
		cfg.TLS = &tls.Config{GetCertificate: certificate.GetCertificate}
		server := registryapi.NewServer(cfg, newDoor(t, cfg, newMemory(), nil), quiet())
		p := newPipes()
		done := make(chan error)
		go func() { done <- server.Serve(registryapi.Listener(cfg, elsewhere{p})) }()
		for _, sent := range []string{"", "\x16\x03\x01"} {
			conn := p.dial()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			_, err := io.Copy(io.Discard, conn)
			if took := time.Since(begun); err != nil || took > cfg.ReadHeaderTimeout+time.Second {
				t.Errorf("after %q: cut off in %v, %v; want %v", sent, took, err, cfg.ReadHeaderTimeout)
			}
			_ = conn.Close()
		}
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestACertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writePair(t, dir, "one.example")
	synctest.Test(t, func(t *testing.T) {
		c, err := registryapi.OpenCertificate(certFile, keyFile, quiet())
		if err != nil {
			t.Fatal(err)
		}
		name := func() string {
			t.Helper()
			got, err := c.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return got.Leaf.Subject.CommonName
		}
		writePair(t, dir, "another.example")
		time.Sleep(11 * time.Second)
		if got := name(); got != "another.example" {
			t.Errorf("11s after the files changed: %s; want the new one", got)
		}
		if err := os.WriteFile(keyFile, []byte("half writ"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if got := name(); got != "another.example" {
			t.Errorf("while the files are bad: %s; want the old one", got)
		}
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), "certificate of the registry") {
			t.Errorf("Reload of bad files: %v; want an error", err)
		}
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if got := name(); got != "another.example" {
			t.Errorf("while a file is gone: %s; want the old one", got)
		}
		writePair(t, dir, "third.example")
		if err := c.Reload(); err != nil || name() != "third.example" {
			t.Errorf("Reload = %v; want the new one at once", err)
		}
	})
	if _, err := registryapi.OpenCertificate(filepath.Join(dir, "none"), keyFile, quiet()); err == nil {
		t.Error("a certificate that is not there is opened")
	}
}
