package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
)

// maxRequest bounds a certificate request: a P-256 key and a name are some 250 bytes.
const maxRequest = 4096

// A request asks for a certificate for a node's id and key. Only parseRequest makes one: the asker has the key.
type request struct {
	node string
	key  *ecdsa.PublicKey
	spki []byte // the key as DER
}

// makeRequest is the request, as DER, for node's certificate with that key.
func makeRequest(node string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request for %s: %w", node, err)
	}
	return der, nil
}

// parseRequest reads a request that came from outside. Of what it asks only the id and the key count; a request for
// other names is refused, so that nobody takes them for granted.
func parseRequest(der []byte) (request, error) {
	if len(der) > maxRequest {
		return request{}, fmt.Errorf("certificate request of %d bytes: want at most %d", len(der), maxRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return request{}, fmt.Errorf("read a certificate request: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return request{}, errors.New("certificate request: the key is not ECDSA P-256")
	}
	if err := checkName(r.Subject.CommonName); err != nil {
		return request{}, fmt.Errorf("certificate request: node id: %w", err)
	}
	if len(r.Subject.Names) != 1 || len(r.Extensions) != 0 {
		return request{}, errors.New("certificate request: asks for more than a node id")
	}
	if err := r.CheckSignature(); err != nil {
		return request{}, fmt.Errorf("certificate request: signature: %w", err)
	}
	return request{node: r.Subject.CommonName, key: key, spki: r.RawSubjectPublicKeyInfo}, nil
}

// id is the node's that asks.
func (r request) id() string { return r.node }

// keyPrint names the asker's public key: it is that of keyPrintOf the certificate.
func (r request) keyPrint() [32]byte { return sha256.Sum256(r.spki) }

// keyPrintOf names a certificate's public key: SHA-256 of it as DER.
func keyPrintOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
