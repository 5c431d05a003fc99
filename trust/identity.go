package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// An identity is a certificate of this node with its key. It does not change; another one takes its place.
type identity struct {
	id   string
	pair tls.Certificate // with Leaf
	// named: the certificate names the farm, so that those of peers must as well.
	named bool
}

// newIdentity makes an identity of a certificate, DER with what leads to an authority behind it, and its key.
func newIdentity(chain [][]byte, key crypto.Signer, farm string, lax bool) (*identity, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("%d certificates: want 1 to %d", len(chain), maxChain)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("read this node's certificate: %w", err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("the key is not that of this node's certificate")
	}
	id, err := memberOf(leaf, farm, lax)
	if err != nil {
		return nil, err
	}
	_, err = memberOf(leaf, farm, false)
	return &identity{id: id, pair: tls.Certificate{Certificate: cloneAll(chain), PrivateKey: key, Leaf: leaf}, named: err == nil}, nil
}

// good tells whether the certificate lets its holder speak to members now.
func (i *identity) good(now time.Time) bool {
	return i != nil && !now.Before(i.pair.Leaf.NotBefore) && !now.After(i.pair.Leaf.NotAfter)
}

// Certificate is this node's certificate, also when it has run out; nil when there is none.
func (t *Trust) Certificate() *x509.Certificate {
	if own := t.own.Load(); own != nil {
		return own.pair.Leaf
	}
	return nil
}

// SetCertificate makes chain, DER with this node's own certificate first, the one that is shown from now on, and keeps it,
// as soon as it can be written. It must be for this node's id and key, and of an authority in State, which is therefore set before. Connections that
// are open stay open. In mode files the files say which it is.
func (t *Trust) SetCertificate(chain [][]byte) error {
	if t.cfg.Mode == Own {
		return errors.New("the certificate comes from files")
	}
	defer t.takeTurn()()
	return t.setCertificate(chain)
}

// setCertificate is SetCertificate for who has the turn.
func (t *Trust) setCertificate(chain [][]byte) error {
	key, err := t.readKey()
	if err != nil {
		return err
	}
	if key == nil {
		return errors.New("take a certificate: this node has no key that it could be for")
	}
	own, err := t.newOwn(t.view.Load(), chain, key)
	if err != nil {
		return fmt.Errorf("take a certificate: %w", err)
	}
	t.own.Store(own)
	t.dues.owe(dueCertificate)
	t.write()
	return nil
}

// newOwn is an identity that is this node's and of an authority of v, whatever its times.
func (t *Trust) newOwn(v *view, chain [][]byte, key crypto.Signer) (*identity, error) {
	own, err := newIdentity(chain, key, t.cfg.Farm, t.cfg.Mode == Own)
	if err != nil {
		return nil, unrefused(err)
	}
	if t.node != "" && own.id != t.node {
		return nil, fmt.Errorf("certificate of node %q, this is %q", own.id, t.node)
	}
	var certs []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	c := check{farm: t.cfg.Farm, roots: v.roots, lax: t.cfg.Mode == Own, grace: runsForever}
	for _, c.usage = range identityUsages() {
		if _, err := c.peer(certs, own.pair.Leaf.NotBefore); err != nil {
			return nil, unrefused(err)
		}
	}
	return own, nil
}

// unrefused is what is wrong with a certificate where nobody was refused for it.
func unrefused(err error) error {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Err
	}
	return err
}

// runsForever is a grace that no certificate outlives.
const runsForever = 1 << 62

// request is a certificate request, DER, for this node's id and lasting key, which is made and kept when there is none:
// asking again after a lost answer asks for the same key.
func (t *Trust) request() (csr []byte, err error) {
	defer t.takeTurn()()
	return t.makeRequest()
}

// makeRequest is request for who has the turn.
func (t *Trust) makeRequest() ([]byte, error) {
	key, err := t.readKey()
	if err != nil {
		return nil, err
	}
	if key == nil {
		if key, err = t.makeKey(); err != nil {
			return nil, err
		}
	}
	return makeRequest(t.node, key)
}

// readKey is this node's key; nil when there is none.
func (t *Trust) readKey() (*ecdsa.PrivateKey, error) {
	raw, err := t.disk.read(nodeKey)
	if err != nil || raw == nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("%s is damaged", nodeKey)
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", nodeKey, err)
	}
	return key, nil
}

// makeKey makes this node's key and keeps it.
func (t *Trust) makeKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make this node's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode this node's key: %w", err)
	}
	return key, t.disk.write(nodeKey, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}))
}

// sealKey is the key that the farm's secrets are sealed with, if this node has it.
func (t *Trust) sealKey() (k SealKey, ok bool, err error) {
	raw, err := t.disk.read(sealFile)
	if err != nil || raw == nil {
		return SealKey{}, false, err
	}
	key, err := decodeKey(string(raw))
	if err != nil {
		return SealKey{}, false, fmt.Errorf("%s is damaged: %w", sealFile, err)
	}
	return SealKey(key), true, nil
}

// keepSealKey writes the seal key to disk.
func (t *Trust) keepSealKey(k SealKey) error {
	defer t.takeTurn()()
	return t.writeSealKey(k)
}

func (t *Trust) writeSealKey(k SealKey) error {
	return t.disk.write(sealFile, []byte(base64.StdEncoding.EncodeToString(k[:])+"\n"))
}

// sealedIssuer is the authority as it is kept beside the seal key; nil when it is not.
func (t *Trust) sealedIssuer() (sealed []byte, err error) { return t.disk.read(issuerSeal) }

// keepSealedIssuer keeps the sealed authority on disk, so that a node that has the seal key can sign without the farm;
// nil takes it away.
func (t *Trust) keepSealedIssuer(sealed []byte) error {
	defer t.takeTurn()()
	if sealed == nil {
		return t.disk.remove(issuerSeal)
	}
	return t.disk.write(issuerSeal, sealed)
}
