package upstream

import (
	"log/slog"
	"strings"
)

// An Identity is in whose name an upstream is asked: see Client.As. The zero Identity is Farm.
type Identity struct {
	kind          identityKind
	authorization Secret // of a client
}

type identityKind int

const (
	asFarm identityKind = iota
	asAnonymous
	asClient
)

// Anonymous is nobody: no credentials are sent, whatever is configured.
func Anonymous() Identity { return Identity{kind: asAnonymous} }

// Farm is the farm itself, which has the credentials of the first rule that matches a repository, and is anonymous where
// none does.
func Farm() Identity { return Identity{} }

// ClientIdentity is a client of the farm, by the Authorization that it sent. "Bearer" goes to the registry as it is, and
// is never exchanged; "Basic" goes to the registry's token service, or to the registry where that wants it, once asked
// for. With any other the upstream refuses everything without being asked. "" is Anonymous.
func ClientIdentity(authorization Secret) Identity {
	if strings.TrimSpace(string(authorization)) == "" {
		return Anonymous()
	}
	return Identity{kind: asClient, authorization: authorization}
}

// String says what kind of identity it is, and nothing of the credential.
func (i Identity) String() string {
	switch i.kind {
	case asAnonymous:
		return "anonymous"
	case asClient:
		return "client"
	}
	return "farm"
}

// GoString is String, for %#v.
func (i Identity) GoString() string { return i.String() }

// LogValue is String, for slog.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }

// As is the Client with which the same upstream is asked in the name of i. It shares connections, limits, breakers and
// counters with c; tokens, and the redirects of blobs, are i's own. It is cheap, and need not be closed. What is kept of
// clients is bounded: of those that were not heard of for long nothing is left.
func (c *Client) As(i Identity) *Client {
	view := &Client{registry: c.registry, kind: i.kind}
	if i.kind == asClient {
		view.own = c.guests.of(c.registry, i.authorization)
	}
	return view
}

// authority finds the Authorization of requests for a repository.
func (c *Client) authority(path string) *authority {
	if c.own != nil {
		return c.own
	}
	k := c.keys.Load()
	if c.kind == asFarm {
		if a := k.of(path); a != nil {
			return a
		}
	}
	return k.anonymous
}

// HasCredentials tells whether requests for the repository of that path may carry credentials.
func (c *Client) HasCredentials(path string) bool {
	a := c.authority(path)
	return a.secrets != nil || a.bearer != ""
}

// Challenge is the WWW-Authenticate with which the upstream asks for a token to read a repository, as configured or as far
// as it has said so yet: `Bearer realm="…",service="…",scope="repository:PATH:pull"`. It is "" when the upstream has not
// asked for any, wants Basic, or names a token service that credentials may not go to.
func (c *Client) Challenge(path string) string {
	ch := c.learned.get()
	if c.cfg.AuthRealm != "" {
		ch = challenge{scheme: schemeBearer, realm: c.cfg.AuthRealm, service: c.cfg.AuthService}
	}
	if ch.scheme != schemeBearer {
		return ""
	}
	realm, err := c.realm(ch)
	if err != nil || c.cfg.AuthRealm == "" && !c.trusts(realm) {
		return ""
	}
	ch.scope = c.authority(path).scopeOf(path)
	return ch.header()
}

// Forget drops all credentials, tokens and redirects that are remembered: credentials have changed. Requests that are on
// their way end with what they have.
func (c *Client) Forget() {
	c.keys.Store(newKeyring(c.registry))
	c.guests.forget()
}
