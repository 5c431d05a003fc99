package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// odd is a certificate of the founder's authority that change has made odd, with its key.
func odd(t *testing.T, first *Trust, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "odd"}, URIs: []*url.URL{memberURI(testFarm, "odd")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	i := authority(t, first)
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// says writes what an outsider has to say, and waits for what becomes of it.
func says(what string) func(context.Context, net.Conn) {
	return func(_ context.Context, raw net.Conn) {
		go func() { _, _ = io.WriteString(raw, what) }()
		_, _ = io.Copy(io.Discard, raw)
	}
}

func TestOutsidersAreRefusedAndCountedAndMembersGoOn(t *testing.T) {
	type node = *Trust
	shows := func(cert func(t *testing.T, first node) tls.Certificate) func(*testing.T, node) func(context.Context, net.Conn) {
		return func(t *testing.T, first node) func(context.Context, net.Conn) {
			pair := cert(t, first)
			return func(ctx context.Context, raw net.Conn) {
				if err := outsider(ctx, raw, func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }); err == nil {
					t.Error("an outsider was answered")
				}
			}
		}
	}
	talks := func(change func(*tls.Config)) func(*testing.T, node) func(context.Context, net.Conn) {
		return func(t *testing.T, first node) func(context.Context, net.Conn) {
			thief := member(t, first, Config{Node: "thief"})
			return func(ctx context.Context, raw net.Conn) {
				err := outsider(ctx, raw, func(c *tls.Config) {
					c.Certificates = []tls.Certificate{thief.own.Load().pair}
					change(c)
				})
				if err == nil {
					t.Error("an outsider was answered")
				}
			}
		}
	}
	plain := func(do func(context.Context, net.Conn)) func(*testing.T, node) func(context.Context, net.Conn) {
		return func(*testing.T, node) func(context.Context, net.Conn) { return do }
	}
	for _, c := range []struct {
		name string
		want reason
		do   func(t *testing.T, first node) func(ctx context.Context, raw net.Conn)
	}{
		{"a port scan", leftEarly, plain(func(context.Context, net.Conn) {})},
		{"silence", tooSlow, plain(func(_ context.Context, raw net.Conn) { _, _ = io.Copy(io.Discard, raw) })},
		{"plain HTTP", notTLS, plain(says("GET / HTTP/1.1\r\nHost: node\r\n\r\n"))},
		{"SSH", notTLS, plain(says("SSH-2.0-OpenSSH_9.9\r\n"))},
		{"zeros", notTLS, plain(says(strings.Repeat("\x00", 1000)))},
		{"an oversized record", notTLS, plain(says("\x16\x03\x01\xff\xff" + strings.Repeat("x", 0xffff)))},
		{"an oversized message", brokeOff, plain(says("\x16\x03\x01\x00\x04\x01\xff\xff\xff"))},
		{"junk in a record", brokeOff, plain(says("\x16\x03\x01\x00\x08\x01\x00\x00\x04junk"))},
		{"a message that drips", tooSlow, plain(func(_ context.Context, raw net.Conn) {
			_, _ = io.WriteString(raw, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
			for {
				if _, err := raw.Write([]byte{1}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})},
		{"TLS 1.2", oldVersion, talks(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{"no ALPN", noProtocol, talks(func(c *tls.Config) { c.NextProtos = nil })},
		{"another ALPN", noProtocol, talks(func(c *tls.Config) { c.NextProtos = []string{"http/1.1", ProtocolJoin} })},
		{"no certificate", noCertificate, talks(func(c *tls.Config) { c.Certificates = nil })},
		{"a member's certificate without its key", brokeOff, func(t *testing.T, first node) func(context.Context, net.Conn) {
			return shows(func(t *testing.T, first node) tls.Certificate {
				other := odd(t, first, func(*x509.Certificate) {})
				other.Certificate = first.own.Load().pair.Certificate
				// tls.X509KeyPair would refuse the pair; a thief's code does not.
				return other
			})(t, first)
		}},
		{"another authority", wrongAuthority, shows(func(t *testing.T, _ node) tls.Certificate {
			other := founder(t, Config{Node: "one"})
			return other.own.Load().pair
		})},
		{"nobody's authority", wrongAuthority, shows(func(t *testing.T, first node) tls.Certificate {
			forged := odd(t, first, func(*x509.Certificate) {})
			template := &x509.Certificate{Subject: pkix.Name{CommonName: "odd"}, NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{memberURI(testFarm, "odd")}}
			key := forged.PrivateKey.(*ecdsa.PrivateKey)
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			forged.Certificate = [][]byte{der}
			return forged
		})},
		{"a member that signs others", wrongAuthority, shows(func(t *testing.T, first node) tls.Certificate {
			thief := member(t, first, Config{Node: "thief"})
			cert, key := thief.Certificate(), thief.own.Load().pair.PrivateKey
			child := odd(t, first, func(*x509.Certificate) {})
			template := &x509.Certificate{
				Subject: pkix.Name{CommonName: "odd"}, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, URIs: []*url.URL{memberURI(testFarm, "odd")},
			}
			der, err := x509.CreateCertificate(rand.Reader, template, cert, child.PrivateKey.(*ecdsa.PrivateKey).Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			child.Certificate = [][]byte{der, cert.Raw}
			return child
		})},
		{"another farm of the same authority", wrongFarm, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.URIs = []*url.URL{memberURI("test farm 2", "odd")} })
		})},
		{"no node", badCertificate, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.URIs = nil })
		})},
		{"several nodes", badCertificate, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.URIs = append(c.URIs, memberURI(testFarm, "one")) })
		})},
		{"servers only", badCertificate, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
		})},
		{"the authority itself", badCertificate, shows(func(t *testing.T, first node) tls.Certificate {
			i := authority(t, first)
			return tls.Certificate{Certificate: [][]byte{i.certificate()}, PrivateKey: i.key}
		})},
		{"a chain without end", badCertificate, shows(func(t *testing.T, first node) tls.Certificate {
			c := odd(t, first, func(*x509.Certificate) {})
			for range maxChain {
				c.Certificate = append(c.Certificate, c.Certificate[0])
			}
			return c
		})},
		{"a certificate that has run out", runOut, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
		})},
		{"a certificate that is not good yet", tooEarly, shows(func(t *testing.T, first node) tls.Certificate {
			return odd(t, first, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
		})},
		{"a revoked node", revokedNode, shows(func(t *testing.T, first node) tls.Certificate {
			thief := member(t, first, Config{Node: "thief"})
			revoke(t, first, "thief")
			return thief.own.Load().pair
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				first := founder(t, Config{Node: "one"})
				first.refused.log = slog.New(slog.NewTextHandler(&log, nil))
				second := member(t, first, Config{Node: "two"})
				before := mustConnect(t, second, first)
				do := c.do(t, first)

				near, far := net.Pipe()
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					do(t.Context(), near)
					_ = near.Close()
				}()
				began := time.Now()
				if _, id, _, err := first.Server(t.Context(), far); err == nil {
					t.Errorf("Server() took an outsider in as %q", id)
				}
				if took := time.Since(began); took > first.cfg.HandshakeTimeout {
					t.Errorf("refusing took %s; want at most %s", took, first.cfg.HandshakeTimeout)
				}
				<-gone
				if count(first, c.want) != 1 || total(first) != 1 {
					t.Errorf("refused %d for %s, %d in all, the log says %s; want 1 of 1", count(first, c.want), c.want, total(first), &log)
				}
				if value, _ := metric(t, first, "p2pd_trust_refused_total", string(c.want)); value != 1 {
					t.Errorf("p2pd_trust_refused_total{reason=%q} = %v; want 1", c.want, value)
				}
				if n := first.peers.count(); n != 0 {
					t.Errorf("%d handshakes left behind", n)
				}
				after := mustConnect(t, second, first)
				for _, p := range []pair{before, after} {
					if err := p.talks(t); err != nil {
						t.Errorf("members can no longer talk: %v", err)
					}
					p.close()
				}
			})
		})
	}
}

func TestAServerThatIsNotWhoItShouldBeGetsNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   reason
		server func(t *testing.T, first *Trust) *Trust
	}{
		{"another member", wrongNode, func(t *testing.T, first *Trust) *Trust { return member(t, first, Config{Node: "three"}) }},
		{"another farm", wrongAuthority, func(t *testing.T, _ *Trust) *Trust { return founder(t, Config{Node: "two"}) }},
		{"revoked", revokedNode, func(t *testing.T, first *Trust) *Trust {
			two := member(t, first, Config{Node: "two"})
			revoke(t, first, "two")
			return two
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := founder(t, Config{Node: "one", Expect: func(address string) (string, bool) {
					return "two", address == "address of two"
				}})
				p := connect(t, first, c.server(t, first), "address of two")
				if p.dialError == nil || p.acceptedError == nil {
					t.Errorf("Client() = %v, Server() = %v; want no connection", p.dialError, p.acceptedError)
				}
				if count(first, c.want) != 1 || total(first) != 1 {
					t.Errorf("refused %d for %s of %d: %v; want 1 of 1", count(first, c.want), c.want, total(first), p.dialError)
				}
			})
		})
	}
}

func TestAServerOfAnotherProtocolIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		near, far := net.Pipe()
		go func() {
			s := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{first.own.Load().pair}})
			_ = s.HandshakeContext(t.Context())
			_ = far.Close()
		}()
		if _, _, err := first.Client(t.Context(), near, "", "h2"); err == nil || count(first, noProtocol) != 1 {
			t.Errorf("Client() of a server without ALPN = %v, %d refused; want it refused", err, count(first, noProtocol))
		}
	})
}

func TestWithoutACertificateNobodyIsSpokenTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		for name, lonely := range map[string]*Trust{
			"that never joined":                      open(t, Config{Node: "two"}),
			"whose certificate has run out long ago": member(t, first, Config{Node: "three", Lifetime: time.Nanosecond}),
		} {
			time.Sleep(time.Second)
			if lonely.Member() {
				t.Errorf("a node %s is a member", name)
			}
			if p := connect(t, lonely, first, ""); !errors.Is(p.dialError, ErrNotMember) {
				t.Errorf("Client() of a node %s = %v; want %v", name, p.dialError, ErrNotMember)
			}
			if p := connect(t, first, lonely, ""); !errors.Is(p.acceptedError, ErrNotMember) {
				t.Errorf("Server() of a node %s = %v; want %v", name, p.acceptedError, ErrNotMember)
			}
		}
	})
}

func TestOutsidersCannotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		first := founder(t, Config{Node: "one"})
		first.refused.log = slog.New(slog.NewTextHandler(&log, nil))
		for range 600 { // ten minutes
			near, far := net.Pipe()
			_ = near.Close()
			_, _, _, _ = first.Server(t.Context(), far)
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n != 10 {
			t.Errorf("600 outsiders in ten minutes made %d lines of log; want 10", n)
		}
		if !strings.Contains(log.String(), "untold=59") {
			t.Errorf("the log does not say how many it has left out: %s", &log)
		}
		if count(first, leftEarly) != 600 {
			t.Errorf("counted %d; want 600", count(first, leftEarly))
		}
	})
}
