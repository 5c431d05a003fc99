package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pullonce/pullonce/access"
)

// A Rule says whose credentials the farm uses for some of an upstream's repositories.
type Rule struct {
	Match  access.Pattern
	Source Source
}

const (
	maxGuests     = 256              // clients whose tokens are kept
	guestLife     = 30 * time.Minute // for which a client is remembered that does not ask
	guestTokens   = 16               // kept of one client
	guestRedirect = 64               // kept of one client
)

// A keyring is what the farm asks with: an authority for each rule, and that of nobody.
type keyring struct {
	rules     []ruled
	anonymous *authority
}

type ruled struct {
	match     access.Pattern
	authority *authority
}

func newKeyring(r *registry) *keyring {
	k := &keyring{anonymous: newAuthority(r, maxTokens, maxRedirectTargets)}
	for _, rule := range r.cfg.rules() {
		a := newAuthority(r, maxTokens, maxRedirectTargets)
		a.secrets = &memory{source: rule.Source}
		k.rules = append(k.rules, ruled{rule.Match, a})
	}
	return k
}

// of is the authority of the first rule that matches path, or nil.
func (k *keyring) of(path string) *authority {
	for _, r := range k.rules {
		if r.match.Match(path) {
			return r.authority
		}
	}
	return nil
}

// guests are the authorities of clients that brought their own credentials, by a keyed hash of these.
type guests struct {
	key   []byte
	table *cache[[sha256.Size]byte, *authority]
}

func newGuests() *guests {
	g := &guests{key: make([]byte, sha256.Size), table: newCache[[sha256.Size]byte, *authority](maxGuests)}
	_, _ = rand.Read(g.key) // never fails
	return g
}

func (g *guests) of(r *registry, authorization Secret) *authority {
	mac := hmac.New(sha256.New, g.key)
	_, _ = mac.Write([]byte(authorization))
	key := [sha256.Size]byte(mac.Sum(nil))
	if a, ok := g.table.renew(key, guestLife); ok {
		return a
	}
	return g.table.keep(key, newGuest(r, string(authorization)), guestLife)
}

func (g *guests) forget() { g.table.clear() }

// newGuest is the authority of a client that sent authorization.
func newGuest(r *registry, authorization string) *authority {
	a := newAuthority(r, guestTokens, guestRedirect)
	scheme, value, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	value = strings.TrimSpace(value)
	switch strings.ToLower(scheme) {
	case schemeBearer:
		a.bearer = value
		a.refused = !validToken(value)
	case schemeBasic:
		creds, err := parseBasic(value)
		a.secrets = &memory{source: creds}
		a.refused = err != nil
	default:
		a.refused = true
	}
	return a
}

// errBasic repeats nothing of what it is about.
var errBasic = errors.New("no Basic credentials")

// parseBasic reads what follows "Basic ".
func parseBasic(value string) (Credentials, error) {
	if len(value) > maxTokenBytes {
		return Credentials{}, errBasic
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return Credentials{}, errBasic
	}
	name, password, ok := strings.Cut(string(raw), ":")
	creds := Credentials{Username: name, Password: Secret(password)}
	if !ok || name == "" || creds.check() != nil {
		return Credentials{}, errBasic
	}
	return creds, nil
}

// rules are those of the configuration, with that of Username last.
func (c Config) rules() []Rule {
	rules := c.Credentials
	if c.Username != "" {
		all, err := access.ParsePattern("*")
		if err != nil {
			panic(fmt.Sprintf("pattern of all: %v", err)) // it is one
		}
		rules = append(rules[:len(rules):len(rules)], Rule{all, Credentials{Username: c.Username, Password: c.Password}})
	}
	return rules
}
