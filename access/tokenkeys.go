package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeys bounds what checking one token costs.
	maxKeys = 16
	// leastRSA is what is still safe for years.
	leastRSA = 2048
)

// parseKeys reads the public keys of a token service: a JWKS, or certificates and public keys in PEM form.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	parse := parsePEM
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		parse = parseJWKS
	}
	keys, err := parse(raw)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errors.New("no key: want certificates or public keys in PEM form, or a JWKS")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("%d keys: want at most %d", len(keys), maxKeys)
	}
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return keys, nil
}

func parseJWKS(raw []byte) ([]jose.JSONWebKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	return set.Keys, nil
}

func parsePEM(raw []byte) ([]jose.JSONWebKey, error) {
	var keys []jose.JSONWebKey
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			return keys, nil
		}
		var key any
		var err error
		switch block.Type {
		case "CERTIFICATE":
			var certificate *x509.Certificate
			if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = certificate.PublicKey
			}
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		default: // a private key above all: it belongs to the token service alone
			err = fmt.Errorf("PEM block %.40q: want certificates or public keys", block.Type)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
}

// checkKey tells what a key cannot be trusted for.
func checkKey(k jose.JSONWebKey) error {
	switch key := k.Key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < leastRSA {
			return fmt.Errorf("RSA of %d bits: want at least %d", bits, leastRSA)
		}
	default:
		return errors.New("want a public key: ECDSA, RSA or Ed25519")
	}
	if k.Use != "" && k.Use != "sig" {
		return fmt.Errorf("use %.20q: want sig", k.Use)
	}
	return nil
}
