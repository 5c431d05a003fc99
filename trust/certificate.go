package trust

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A member is named in its certificate by pullonce://<farm>/node/<id>.
const (
	memberScheme = "pullonce"
	memberPath   = "/node/"
)

// maxChain is how many certificates a peer may show: its own and what leads to an authority.
const maxChain = 6

// memberURI names node of farm.
func memberURI(farm, node string) *url.URL {
	return &url.URL{Scheme: memberScheme, Host: farmHost(farm), Path: memberPath + node}
}

// farmHost is the farm's name as the host of a URI, which may have fewer characters, and no empty label: other bytes
// become _ and two hex digits, so that no two farms have one.
func farmHost(farm string) string {
	var b strings.Builder
	for i := range len(farm) {
		c := farm[i]
		inner := i > 0 && i < len(farm)-1 && farm[i-1] != '.'
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' && inner {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('_')
		b.WriteString(hex.EncodeToString([]byte{c}))
	}
	return b.String()
}

// memberOf is who a certificate says its holder is. Without the farm's URI, the common name is its id if lax, which is
// for authorities of a site that know nothing of farms.
func memberOf(c *x509.Certificate, farm string, lax bool) (id string, err error) {
	named := 0
	for _, u := range c.URIs {
		if u.Scheme != memberScheme {
			continue
		}
		named++
		id = strings.TrimPrefix(u.Path, memberPath)
		if u.String() != memberURI(farm, id).String() {
			return "", refuse(wrongFarm, fmt.Errorf("certificate of %.200q, not of a node of farm %q", u, farm))
		}
	}
	switch {
	case named > 1:
		return "", refuse(badCertificate, errors.New("certificate of several nodes"))
	case named == 0 && !lax:
		return "", refuse(badCertificate, errors.New("certificate of no node"))
	case named == 0:
		id = c.Subject.CommonName
	}
	if err := checkName(id); err != nil {
		return "", refuse(badCertificate, fmt.Errorf("certificate's node id: %w", err))
	}
	return id, nil
}

// A check is what a peer's certificates are held against.
type check struct {
	farm  string
	roots *x509.CertPool
	state State
	back  time.Duration // by which certificates begin before they were made
	lax   bool          // the common name may say who it is
	usage x509.ExtKeyUsage
	grace time.Duration // for how long a certificate may have run out
}

// peer tells whose certificates these are, the peer's own first, or refuses them.
func (c check) peer(chain []*x509.Certificate, now time.Time) (id string, err error) {
	if len(chain) == 0 {
		return "", refuse(noCertificate, errors.New("no certificate"))
	}
	if len(chain) > maxChain {
		return "", refuse(badCertificate, fmt.Errorf("%d certificates: want at most %d", len(chain), maxChain))
	}
	leaf := chain[0]
	if err := c.verify(leaf, chain[1:], now); err != nil {
		return "", err
	}
	id, err = memberOf(leaf, c.farm, c.lax)
	if err != nil {
		return "", err
	}
	if _, ok := c.state.Revoked[id]; ok {
		return "", refuse(revokedNode, fmt.Errorf("node %.64q is revoked", id))
	}
	if c.state.voids(id, leaf, c.back) {
		return "", refuse(revokedNode, fmt.Errorf("certificate of %.64q is from before the node was revoked", id))
	}
	if now.Before(leaf.NotBefore) {
		return "", refuse(tooEarly, fmt.Errorf("certificate of %.64q is good from %s on: look at the clocks", id, stamp(leaf.NotBefore)))
	}
	if now.After(leaf.NotAfter.Add(c.grace)) {
		return "", refuse(runOut, fmt.Errorf("certificate of %.64q has run out at %s", id, stamp(leaf.NotAfter)))
	}
	return id, nil
}

// verify looks for a way from the peer's certificate to an authority. The certificate's own times are peer's to judge, as
// that can say which of them is wrong.
func (c check) verify(leaf *x509.Certificate, rest []*x509.Certificate, now time.Time) error {
	between := x509.NewCertPool()
	for _, cert := range rest {
		between.AddCert(cert)
	}
	at := now
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	} else if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{c.usage},
	})
	if err == nil {
		return nil
	}
	why := wrongAuthority
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		why = badCertificate
		if invalid.Reason == x509.Expired {
			why = runOut
		}
	}
	return refuse(why, fmt.Errorf("certificate is not of this farm's authority: %w", err))
}

// stamp is a time for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
