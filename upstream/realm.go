package upstream

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/pullonce/pullonce/oci"
)

// realm is the token service that a challenge names. That is the registry's word, which may be wrong or hostile.
func (g *registry) realm(ch challenge) (*url.URL, error) {
	realm, err := url.Parse(ch.realm)
	if err != nil || realm.Host == "" || realm.User != nil || realm.Scheme != "https" && realm.Scheme != "http" {
		return nil, fmt.Errorf("%w: registry names a token service that is no URL", oci.ErrUnavailable)
	}
	if realm.Scheme == "http" && g.base.Scheme == "https" {
		return nil, fmt.Errorf("%w: registry names a token service without TLS, %s", oci.ErrUnauthorized, realm.Host)
	}
	return realm, nil
}

// trusts tells whether credentials may go to the token service at realm.
func (g *registry) trusts(realm *url.URL) bool {
	host, own := strings.ToLower(realm.Hostname()), strings.ToLower(g.base.Hostname())
	if host == own || slices.Contains(g.cfg.AuthHosts, host) {
		return true
	}
	if net.ParseIP(host) != nil || net.ParseIP(own) != nil {
		return false
	}
	domain, err1 := publicsuffix.EffectiveTLDPlusOne(host)
	ownDomain, err2 := publicsuffix.EffectiveTLDPlusOne(own)
	return err1 == nil && err2 == nil && domain == ownDomain
}
