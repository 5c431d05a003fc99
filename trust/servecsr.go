package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// maxServeRequest bounds a request for a registry's certificate: a key and names, most of which are short.
const maxServeRequest = 12 << 10

// subjectAltName is the extension with the names.
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// A serveRequest asks for a certificate that a registry shows to its clients. Only parseServeRequest makes one: the asker
// has the key.
type serveRequest struct {
	names names
	key   *ecdsa.PublicKey
}

// makeServeRequest is the request, as DER, for the certificate of a registry of that names with that key. It names no
// node: who asks is known by other means.
func makeServeRequest(n names, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: n.hosts, IPAddresses: n.ips()}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request for the registry: %w", err)
	}
	if len(der) > maxServeRequest {
		return nil, fmt.Errorf("the names of the registry make a certificate request of %d bytes: want at most %d", len(der), maxServeRequest)
	}
	return der, nil
}

// parseServeRequest reads a request that came from outside. One for anything but host names and addresses is refused: above
// all for a node's id, which makes a member.
func parseServeRequest(der []byte) (serveRequest, error) {
	if len(der) > maxServeRequest {
		return serveRequest{}, fmt.Errorf("certificate request of %d bytes: want at most %d", len(der), maxServeRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return serveRequest{}, fmt.Errorf("read a certificate request: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return serveRequest{}, errors.New("certificate request: the key is not ECDSA P-256")
	}
	if len(r.Subject.Names) != 0 || len(r.URIs) != 0 || len(r.EmailAddresses) != 0 ||
		len(r.Extensions) != 1 || !r.Extensions[0].Id.Equal(subjectAltName) {
		return serveRequest{}, errors.New("certificate request: asks for other things than names of a registry")
	}
	n, err := namesOf(r.DNSNames, r.IPAddresses)
	if err != nil {
		return serveRequest{}, fmt.Errorf("certificate request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return serveRequest{}, fmt.Errorf("certificate request: signature: %w", err)
	}
	return serveRequest{names: n, key: key}, nil
}
