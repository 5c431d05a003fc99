package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// authorityYears is for how long a farm's authority is good.
const authorityYears = 10

// sealedAuthority is what an authority is sealed as.
const sealedAuthority = "authority"

// A Fingerprint names an authority: SHA-256 of its certificate as DER.
type Fingerprint [sha256.Size]byte

// String is the fingerprint as hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// fingerprintOf is the fingerprint of a certificate as DER.
func fingerprintOf(der []byte) Fingerprint { return sha256.Sum256(der) }

// An issuer is the farm's authority with its key: it makes members.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newIssuer makes an authority for farm, good from back ago.
func newIssuer(farm string, back time.Duration) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "pullonce farm " + clip(farm, maxName-len("pullonce farm "))},
		NotBefore:             now.Add(-back),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // no authorities below it
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	return readIssuer(der, key)
}

// clip is the first runes of text that have at most n bytes.
func clip(text string, n int) string {
	end := 0
	for i, r := range text {
		if i+len(string(r)) > n {
			break
		}
		end = i + len(string(r))
	}
	return text[:end]
}

func readIssuer(der []byte, key *ecdsa.PrivateKey) (*issuer, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the key is not that of the authority %s", fingerprintOf(der))
	}
	return &issuer{cert: cert, key: key}, nil
}

// issue makes a certificate for who asks, with the farm and the times of cfg; it does not outlive the authority. The chain
// is DER, the member's own certificate first; authorities are not in it.
func (i *issuer) issue(r request, cfg Config) (chain [][]byte, err error) {
	cfg = cfg.withDefaults()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.node},
		URIs:                  []*url.URL{memberURI(cfg.Farm, r.node)},
		NotBefore:             time.Now().Add(-cfg.Back),
		NotAfter:              i.ends(cfg),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, i.cert, r.key, i.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", r.node, err)
	}
	return [][]byte{der}, nil
}

// ends is when a certificate that is made now runs out.
func (i *issuer) ends(cfg Config) time.Time {
	if ends := time.Now().Add(cfg.Lifetime); ends.Before(i.cert.NotAfter) {
		return ends
	}
	return i.cert.NotAfter
}

// certificate is the authority's own, as DER.
func (i *issuer) certificate() []byte { return i.cert.Raw }

// fingerprint names the authority.
func (i *issuer) fingerprint() Fingerprint { return fingerprintOf(i.cert.Raw) }

// issuerFile is an issuer as it is sealed.
type issuerFile struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"` // PKCS #8
}

// sealed is the authority with its key, for keeping.
func (i *issuer) sealed(k SealKey) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	plain, err := json.Marshal(issuerFile{Certificate: i.cert.Raw, Key: key})
	if err != nil {
		return nil, fmt.Errorf("encode the authority: %w", err)
	}
	return k.seal(sealedAuthority, plain), nil
}

// unsealIssuer undoes sealed.
func unsealIssuer(k SealKey, sealed []byte) (*issuer, error) {
	plain, err := k.unseal(sealedAuthority, sealed)
	if err != nil {
		return nil, err
	}
	var file issuerFile
	if err := json.Unmarshal(plain, &file); err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	key, err := parseKey(file.Key)
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w", err)
	}
	return readIssuer(file.Certificate, key)
}

// parseKey reads an ECDSA key as PKCS #8.
func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("is a %T, want ECDSA", key)
	}
	return ec, nil
}
