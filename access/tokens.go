package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// leeway is how far the clock of the token service may be from this one.
	leeway = time.Minute
	// tokenMemory is for how long a token that was right is not checked again.
	tokenMemory = time.Minute
	maxTokens   = 4096 // remembered
)

// algorithms are those that a token may be signed by: never none, and none whose key is a secret of both sides.
var algorithms = []jose.SignatureAlgorithm{
	jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// errWrongToken is all that is said of a token that is not right.
var errWrongToken = errors.New("wrong token")

// A TokenService is who hands out tokens, as in the distribution project's token specification. All fields are needed.
type TokenService struct {
	Realm    string // URL where clients get tokens
	Service  string // the registry's name there, and the audience of tokens
	Issuer   string // who must have signed them
	KeysFile string // certificates or public keys in PEM form, or a JWKS
}

// Tokens are the Bearer tokens of an external token service.
type Tokens struct {
	service TokenService
	secret  *Secret
	ring    atomic.Pointer[keyring]
}

// A keyring is what the file of keys said, and the tokens that were right by it.
type keyring struct {
	keys  []jose.JSONWebKey
	right *table[Key, *token]
}

// A token is one that is right.
type token struct {
	user    string
	until   time.Time // checked with leeway already
	access  []granted
	catalog bool // may list all repositories
}

// granted is what a token allows: pull, push and delete in one repository.
type granted struct {
	path  string
	allow Action
}

// OpenTokens reads the keys of a token service.
func OpenTokens(service TokenService) (*Tokens, error) {
	for _, text := range []string{service.Realm, service.Service, service.Issuer} {
		if text == "" || strings.ContainsAny(text, "\"\\") || hasControl(text) {
			return nil, errors.New("token service: want realm, service and issuer, without quotes")
		}
	}
	t := &Tokens{service: service, secret: NewSecret()}
	return t, t.Reload()
}

// Reload reads the keys again. With an error they stay what they were.
func (t *Tokens) Reload() error {
	raw, err := readBounded(t.service.KeysFile)
	if err != nil {
		return fmt.Errorf("read keys of the token service: %w", err)
	}
	keys, err := parseKeys(raw)
	if err != nil {
		return fmt.Errorf("read keys of the token service: %s: %w", t.service.KeysFile, err)
	}
	t.ring.Store(&keyring{keys: keys, right: newTable[Key, *token](maxTokens)})
	return nil
}

// check is the token that c is, for repositories below prefix as clients may name them.
func (t *Tokens) check(c Credential, prefix string) (*token, error) {
	text, ok := c.bearer()
	if !ok {
		return nil, errWrongToken
	}
	k, now, ring := t.secret.KeyOf(c), time.Now(), t.ring.Load()
	if right, ok := ring.right.get(k, now); ok {
		return right, nil
	}
	right, err := t.verify(ring, text, prefix, now)
	if err != nil {
		return nil, errWrongToken
	}
	until := now.Add(tokenMemory)
	if right.until.Before(until) {
		until = right.until
	}
	ring.right.put(k, right, until)
	return right, nil
}

// A claimed is what a token says besides the claims that all JWTs have.
type claimed struct {
	Access []struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	} `json:"access"`
}

func (t *Tokens) verify(ring *keyring, text, prefix string, now time.Time) (*token, error) {
	parsed, err := jwt.ParseSigned(text, algorithms)
	if err != nil {
		return nil, err
	}
	if len(parsed.Headers) != 1 {
		return nil, errWrongToken
	}
	var claims jwt.Claims
	var more claimed
	if !ring.signed(parsed, &claims, &more) {
		return nil, errWrongToken
	}
	if claims.Expiry == nil { // which would be right for ever
		return nil, errWrongToken
	}
	err = claims.ValidateWithLeeway(jwt.Expected{
		Issuer: t.service.Issuer, AnyAudience: jwt.Audience{t.service.Service}, Time: now,
	}, leeway)
	if err != nil {
		return nil, err
	}
	right := &token{user: claims.Subject, until: claims.Expiry.Time().Add(leeway)}
	for _, a := range more.Access {
		right.grant(a.Type, a.Name, a.Actions, prefix)
	}
	return right, nil
}

// signed tells whether one of the keys has signed it, and reads what it says.
func (r *keyring) signed(parsed *jwt.JSONWebToken, claims ...any) bool {
	id := parsed.Headers[0].KeyID
	for _, key := range r.keys {
		// The keys of a PEM file have no ids, and not every service that has ids sends them.
		if id != "" && key.KeyID != "" && id != key.KeyID || key.Algorithm != "" && key.Algorithm != parsed.Headers[0].Algorithm {
			continue
		}
		if parsed.Claims(key.Key, claims...) == nil {
			return true
		}
	}
	return false
}

// grant adds an entry of the access claim. Clients ask for a repository by the name that they use, with the farm's own
// name before it or without: both mean the same one.
func (t *token) grant(kind, name string, actions []string, prefix string) {
	switch {
	case kind == "registry" && name == "catalog" && slices.Contains(actions, "*"):
		t.catalog = true
	case kind == "repository":
		g := granted{path: strings.TrimPrefix(name, prefix+"/")}
		for _, action := range actions {
			g.allow |= actionOf(action)
		}
		t.access = append(t.access, g)
	}
}

// actionOf is what an action of the token specification allows.
func actionOf(word string) Action {
	switch word {
	case "pull":
		return Read | List
	case "push":
		return Write
	case "delete":
		return Delete
	case "*":
		return everything
	}
	return 0
}

// of is what t allows with the repository of that path.
func (t *token) of(path string) Action {
	allowed := Action(0)
	for _, g := range t.access {
		if g.path == path {
			allowed |= g.allow
		}
	}
	if t.catalog {
		allowed |= List
	}
	return allowed
}

// challenge asks for a token that allows action with the repository of that path; path "" asks for any. why is the error
// that the specification has for a token that was given, "" when none was.
func (t *Tokens) challenge(path string, action Action, why string) string {
	text := `Bearer realm="` + t.service.Realm + `",service="` + t.service.Service + `"`
	if path != "" {
		text += `,scope="repository:` + path + `:` + scopeOf(action) + `"`
	}
	if why != "" {
		text += `,error="` + why + `"`
	}
	return text
}

// scopeOf is what a token must allow so that a client can go through with an action: who pushes looks first.
func scopeOf(action Action) string {
	switch action {
	case Write:
		return "pull,push"
	case Delete:
		return "delete"
	}
	return "pull"
}
