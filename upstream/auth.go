package upstream

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullonce/pullonce/oci"
)

// An authority finds the Authorization of one identity's requests to one registry, and keeps what only that identity was
// given: tokens and redirects. How the registry wants to authenticate is the same for all, and learned from its first
// 401, so that later requests, for other repositories too, bring theirs with them and cost one round trip.
type authority struct {
	registry *registry
	secrets  *memory // whose credentials to send; nil: none
	bearer   string  // a client's own token, sent as it is
	refused  bool    // a client's Authorization cannot be sent to any registry

	tokens    *cache[tokenKey, string]
	scopes    *cache[string, string] // by repository, where the registry wants another scope than the usual one
	redirects *cache[redirectKey, *url.URL]
	flight    singleflight.Group

	mu   sync.Mutex
	dead challenge // led nowhere: the registry is asked anew
}

type tokenKey struct{ realm, service, scope string }

func newAuthority(r *registry, tokens, redirects int) *authority {
	return &authority{
		registry: r, tokens: newCache[tokenKey, string](tokens), scopes: newCache[string, string](tokens),
		redirects: newCache[redirectKey, *url.URL](redirects),
	}
}

// A learned is how a registry wants to authenticate, as it said last.
type learned struct {
	mu    sync.Mutex
	ch    challenge // zero before the first 401
	again time.Time // when a registry that has never said so may be asked
}

// askAgain is how often a registry that asks nobody for credentials is asked whether it would.
const askAgain = time.Minute

func (l *learned) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.again) {
		return false
	}
	l.again = now.Add(askAgain)
	return true
}

func (l *learned) get() challenge {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ch
}

func (l *learned) set(ch challenge) {
	ch.scope = "" // is of one request
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ch = ch
}

// authorize is the Authorization to send with a request for repository, "" when the registry has not asked for any, or
// there is none that it would take: it may still give what is public.
func (a *authority) authorize(ctx context.Context, repository string) (string, error) {
	switch {
	case a.refused:
		return "", fmt.Errorf("%w: authorization of the client is of no known kind", oci.ErrUnauthorized)
	case a.bearer != "":
		return "Bearer " + a.bearer, nil
	}
	ch := a.registry.learned.get()
	if ch.scheme == "" || ch == a.deadEnd() || ch.scheme == schemeBasic && a.secrets == nil {
		return "", nil
	}
	creds, err := a.credentials(ctx)
	if err != nil {
		return "", err // which says nothing of the registry
	}
	authorization, err := a.answer(ctx, ch, a.scopeOf(repository), creds)
	if err != nil && ctx.Err() == nil {
		a.giveUp(ch)
	}
	return authorization, err
}

func (a *authority) deadEnd() challenge {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead
}

// giveUp has the registry asked anew how it wants to authenticate: what it said before leads nowhere, which may be
// because it has changed, because something else answered for it, or because these credentials are wrong. So it holds
// for this identity alone.
func (a *authority) giveUp(ch challenge) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = ch
}

// challenged is the Authorization to try after the registry answered 401 with headers to a request that carried
// refused. The error is oci.ErrUnauthorized where there is none to try.
func (a *authority) challenged(ctx context.Context, repository, refused string, headers []string) (string, error) {
	ch, ok := a.learn(headers)
	if !ok {
		return "", fmt.Errorf("%w: registry names no way that is known", oci.ErrUnauthorized)
	}
	if a.bearer != "" {
		return "", fmt.Errorf("%w: registry refuses the client's token", oci.ErrUnauthorized)
	}
	scope := ch.scope
	if usual := usualScope(repository); scope == "" {
		scope = usual
	} else if scope != usual {
		a.scopes.put(repository, scope, maxTokenTTL)
	}
	if token, ok := strings.CutPrefix(refused, "Bearer "); ok {
		a.tokens.dropIf(tokenKey{ch.realm, ch.service, scope}, func(t string) bool { return t == token })
	}
	creds, err := a.credentials(ctx)
	if err != nil {
		return "", err
	}
	authorization, err := a.answer(ctx, ch, scope, creds)
	if err == nil && authorization == refused {
		authorization, err = a.renewed(ctx, ch, refused, creds)
	}
	return authorization, err
}

// renewed is what to try when the registry itself has refused the credentials: others, if their source has some now.
func (a *authority) renewed(ctx context.Context, ch challenge, refused string, creds Credentials) (string, error) {
	if other, ok := a.secrets.other(ctx, creds); ok {
		if authorization, direct, err := other.direct(ch); direct && err == nil && authorization != refused {
			return authorization, nil
		}
	}
	return "", fmt.Errorf("%w: registry refuses the credentials", oci.ErrUnauthorized)
}

// learn keeps the way to authenticate that a 401 names.
func (a *authority) learn(headers []string) (challenge, bool) {
	ch, ok := choose(parseChallenges(headers))
	if ok {
		a.registry.learned.set(ch)
		a.giveUp(challenge{})
	}
	return ch, ok
}

// choose takes Bearer before Basic: it does not hand the password to the registry.
func choose(all []challenge) (challenge, bool) {
	for _, scheme := range []string{schemeBearer, schemeBasic} {
		if i := slices.IndexFunc(all, func(c challenge) bool { return c.scheme == scheme }); i >= 0 {
			return all[i], true
		}
	}
	return challenge{}, false
}

func usualScope(repository string) string { return "repository:" + repository + ":pull" }

func (a *authority) scopeOf(repository string) string {
	if scope, ok := a.scopes.get(repository); ok {
		return scope
	}
	return usualScope(repository)
}

// credentials are those to send, none for who is anonymous.
func (a *authority) credentials(ctx context.Context) (Credentials, error) {
	if a.secrets == nil {
		return Credentials{}, nil
	}
	return a.secrets.get(ctx)
}

func (a *authority) answer(ctx context.Context, ch challenge, scope string, creds Credentials) (string, error) {
	if authorization, ok, err := creds.direct(ch); ok {
		return authorization, err
	}
	ch.scope = scope
	token, err := a.token(ctx, ch)
	if err != nil {
		return "", err
	}
	return "Bearer " + token, nil
}

// direct is the Authorization that needs no token service. Not ok: the registry wants a token of one.
func (c Credentials) direct(ch challenge) (authorization string, ok bool, err error) {
	switch {
	case c.Token != "":
		return "Bearer " + string(c.Token), true, nil
	case ch.scheme == schemeBearer:
		return "", false, nil
	case c.Username == "" || c.IdentityToken != "":
		return "", true, fmt.Errorf("%w: registry wants Basic credentials and none are configured", oci.ErrUnauthorized)
	}
	return basic(c), true, nil
}

func basic(creds Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(creds.Username+":"+string(creds.Password)))
}
