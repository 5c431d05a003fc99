// Package certs makes connections between members safe for tests and benchmarks that need no farm's trust.
//
// An Authority signs certificates that hold ids; a Member shakes hands with them by mutual TLS 1.3, as transfer.Secure wants
// it. What a real farm does beyond that (times, revocation, bounds) is trust's. Both may be shared by goroutines.
package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// lifetime is how long certificates are good for; they were already a while ago, for clocks that differ and tests that
// live in another year.
const lifetime = 100 * 365 * 24 * time.Hour

// An Authority signs certificates of members.
type Authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

// New makes an authority with a key of its own.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return sign(key)
}

// sign makes the authority of a key.
func sign(key *ecdsa.PrivateKey) (*Authority, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test farm"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-lifetime), NotAfter: time.Now().Add(lifetime),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &Authority{cert, key, x509.NewCertPool()}
	a.roots.AddCert(cert)
	return a, nil
}

// Certificate signs a certificate for an id, good for clients and for a server at 127.0.0.1.
func (a *Authority) Certificate(id string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign a certificate for %s: %w", id, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Roots has the authority alone.
func (a *Authority) Roots() *x509.CertPool { return a.roots }

// Member makes a member's side of handshakes, for the protocols that it speaks as a server.
func (a *Authority) Member(id string, protocols ...string) (*Member, error) {
	cert, err := a.Certificate(id)
	if err != nil {
		return nil, err
	}
	return &Member{tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: a.roots, ClientCAs: a.roots, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: protocols,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		InsecureSkipVerify: true, VerifyConnection: a.verify, //nolint:gosec // certificates have ids and no names; verify does it
	}}, nil
}

// verify checks the certificate of the other side.
func (a *Authority) verify(s tls.ConnectionState) error {
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// A Member implements transfer.Secure.
type Member struct{ config tls.Config }

// Client implements transfer.Secure.
func (m *Member) Client(ctx context.Context, raw net.Conn, _, protocol string) (net.Conn, string, error) {
	cfg := m.config.Clone()
	cfg.NextProtos = []string{protocol}
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, "", err
	}
	return c, c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// Server implements transfer.Secure.
func (m *Member) Server(ctx context.Context, raw net.Conn) (c net.Conn, id, protocol string, err error) {
	conn := tls.Server(raw, m.config.Clone())
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, "", "", err
	}
	state := conn.ConnectionState()
	return conn, state.PeerCertificates[0].Subject.CommonName, state.NegotiatedProtocol, nil
}

// Config is a copy of the member's side of handshakes, for one that misbehaves.
func (m *Member) Config() *tls.Config { return m.config.Clone() }

// Key is the authority for another process of the same test.
func (a *Authority) Key() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(a.key) }

// FromKey is the authority that has a Key. It makes a certificate of its own for it, which the others do not need.
func FromKey(raw []byte) (*Authority, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("read the key of an authority: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the key of an authority: it is a %T", parsed)
	}
	return sign(key)
}
