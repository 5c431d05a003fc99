package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// keepServingPair writes the certificate of the registry and its key to disk, in one file, so that they always fit.
func (t *Trust) keepServingPair(pair *tls.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode the registry's key: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), encodeCertificates(pair.Certificate)...)
	return t.disk.write(registryFile, text)
}

// keptServing is what keepServingPair has written; nil when there is nothing.
func (t *Trust) keptServing() (*tls.Certificate, error) {
	raw, err := t.disk.read(registryFile)
	if err != nil || raw == nil {
		return nil, err
	}
	block, rest := pem.Decode(bytes.TrimSpace(raw))
	if block == nil || block.Type != pemKey {
		return nil, errors.New(registryFile + " is damaged")
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", registryFile, err)
	}
	chain, err := decodeCertificates(rest)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", registryFile, err)
	}
	return newServing(chain, key)
}
