package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
	"golang.org/x/sync/singleflight"

	"github.com/pullonce/pullonce/oci"
)

const (
	defaultTokenTTL = 60 * time.Second // of the distribution token specification
	maxTokenTTL     = time.Hour
	maxTokenBytes   = 64 << 10  // of a token
	maxTokenAnswer  = 256 << 10 // of the token service's answer
	maxTokens       = 4096      // scopes kept
)

// An authority finds the Authorization of requests to one registry. It learns from the first 401 how the registry
// wants it, so that later requests, for other repositories too, bring theirs with them and cost one round trip.
type authority struct {
	cfg  Config
	base *url.URL
	send sender

	tokens *cache[tokenKey, string]
	scopes *cache[string, string] // by repository, where the registry wants another scope than the usual one
	flight singleflight.Group

	mu      sync.Mutex
	learned challenge // zero before the first 401
}

type tokenKey struct{ realm, service, scope string }

// A sender makes one request of a kind to whatever host it names.
type sender func(ctx context.Context, k kind, req *http.Request) (*http.Response, error)

func newAuthority(cfg Config, base *url.URL, send sender) *authority {
	return &authority{
		cfg: cfg, base: base, send: send,
		tokens: newCache[tokenKey, string](maxTokens), scopes: newCache[string, string](maxTokens),
	}
}

// authorize is the Authorization to send with a request for repository, "" when the registry has not asked for any.
func (a *authority) authorize(ctx context.Context, repository string) (string, error) {
	a.mu.Lock()
	learned := a.learned
	a.mu.Unlock()
	authorization, err := a.answer(ctx, learned, a.scopeOf(repository))
	if err != nil && ctx.Err() == nil {
		a.forget(learned)
	}
	return authorization, err
}

// forget has the registry asked anew how it wants to authenticate: what it said before leads nowhere, which may be
// because it has changed, or because something else answered for it.
func (a *authority) forget(ch challenge) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.learned == ch {
		a.learned = challenge{}
	}
}

// challenged is the Authorization to try after the registry answered 401 with headers to a request that carried
// refused. The error is oci.ErrUnauthorized where there is none to try.
func (a *authority) challenged(ctx context.Context, repository, refused string, headers []string) (string, error) {
	ch, ok := a.learn(headers)
	if !ok {
		return "", fmt.Errorf("%w: registry names no way that is known", oci.ErrUnauthorized)
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
	authorization, err := a.answer(ctx, ch, scope)
	if err == nil && authorization == refused {
		return "", fmt.Errorf("%w: registry refuses the credentials", oci.ErrUnauthorized)
	}
	return authorization, err
}

// learn keeps the way to authenticate that a 401 names.
func (a *authority) learn(headers []string) (challenge, bool) {
	ch, ok := choose(parseChallenges(headers))
	if ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.learned = ch
	}
	return ch, ok
}

// choose takes Bearer before Basic: it does not hand the password to the registry.
func choose(all []challenge) (challenge, bool) {
	for _, scheme := range []string{"bearer", "basic"} {
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

func (a *authority) answer(ctx context.Context, ch challenge, scope string) (string, error) {
	switch ch.scheme {
	case "bearer":
		token, err := a.token(ctx, tokenKey{ch.realm, ch.service, scope})
		return "Bearer " + token, err
	case "basic":
		creds, err := a.cfg.credentials(ctx)
		if err != nil {
			return "", err
		}
		if creds.Username == "" {
			return "", fmt.Errorf("%w: registry wants Basic credentials and none are configured", oci.ErrUnauthorized)
		}
		return basic(creds), nil
	}
	return "", nil
}

func basic(creds Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(creds.Username+":"+string(creds.Password)))
}

// token is a token for key that is still good. Callers that want the same one at once share one request; it goes on
// when one of them leaves.
func (a *authority) token(ctx context.Context, key tokenKey) (string, error) {
	if token, ok := a.tokens.get(key); ok {
		return token, nil
	}
	shared := a.flight.DoChan(key.realm+" "+key.service+" "+key.scope, func() (any, error) {
		if token, ok := a.tokens.get(key); ok {
			return token, nil
		}
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), a.cfg.FirstByteTimeout, errNoFirstByte)
		defer cancel()
		token, ttl, err := a.fetch(ctx, key)
		if err != nil && ctx.Err() != nil { // who joined late has time left
			err = &transient{error: err}
		}
		if err != nil {
			return "", fmt.Errorf("get token: %w", err)
		}
		a.tokens.put(key, token, ttl)
		return token, nil
	})
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("get token: %w: %w", oci.ErrUnavailable, context.Cause(ctx))
	case result := <-shared:
		token, _ := result.Val.(string)
		return token, result.Err
	}
}

func (a *authority) fetch(ctx context.Context, key tokenKey) (token string, ttl time.Duration, err error) {
	req, err := a.tokenRequest(ctx, key)
	if err != nil {
		return "", 0, err
	}
	resp, err := a.send(ctx, kindToken, req)
	if err != nil {
		return "", 0, err
	}
	defer discard(resp)
	switch err := statusError(resp); {
	case errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrNameUnknown), errors.Is(err, oci.ErrUnsupported):
		// It says nothing about the manifest or blob that the token is for.
		return "", 0, fmt.Errorf("%w: token service answers status %d", oci.ErrUnavailable, resp.StatusCode)
	case err != nil:
		return "", 0, err
	}
	return readToken(resp.Body)
}

// tokenRequest asks the token service for key.scope, with the credentials if there are any and the service is one of
// those that may see them. The realm is the registry's word, which may be wrong or hostile.
func (a *authority) tokenRequest(ctx context.Context, key tokenKey) (*http.Request, error) {
	realm, err := url.Parse(key.realm)
	if err != nil || realm.Host == "" || realm.User != nil || realm.Scheme != "https" && realm.Scheme != "http" {
		return nil, fmt.Errorf("%w: registry names a token service that is no URL", oci.ErrUnavailable)
	}
	if realm.Scheme == "http" && a.base.Scheme == "https" {
		return nil, fmt.Errorf("%w: registry names a token service without TLS, %s", oci.ErrUnauthorized, realm.Host)
	}
	creds, err := a.cfg.credentials(ctx)
	if err != nil {
		return nil, err
	}
	query := realm.Query()
	if key.service != "" {
		query.Set("service", key.service)
	}
	for scope := range strings.FieldsSeq(key.scope) {
		query.Add("scope", scope)
	}
	header := http.Header{}
	if creds.Username != "" {
		if !a.trusts(realm) {
			return nil, fmt.Errorf("%w: registry names a token service, %s, that its credentials may not go to",
				oci.ErrUnauthorized, realm.Host)
		}
		query.Set("account", creds.Username)
		header.Set("Authorization", basic(creds))
	}
	realm.RawQuery = query.Encode()
	realm.Fragment = ""
	return a.newRequest(ctx, realm, header), nil
}

func (a *authority) newRequest(ctx context.Context, u *url.URL, header http.Header) *http.Request {
	header.Set("User-Agent", a.cfg.UserAgent)
	header.Set("Accept", "application/json")
	header.Set("Accept-Encoding", "identity")
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header}
	return req.WithContext(ctx)
}

// trusts tells whether the credentials may go to the token service at realm.
func (a *authority) trusts(realm *url.URL) bool {
	host, own := strings.ToLower(realm.Hostname()), strings.ToLower(a.base.Hostname())
	if host == own || slices.Contains(a.cfg.AuthHosts, host) {
		return true
	}
	if net.ParseIP(host) != nil || net.ParseIP(own) != nil {
		return false
	}
	domain, err1 := publicsuffix.EffectiveTLDPlusOne(host)
	ownDomain, err2 := publicsuffix.EffectiveTLDPlusOne(own)
	return err1 == nil && err2 == nil && domain == ownDomain
}

// readToken reads a token service's answer. Tokens are used for 9/10 of their time, since that starts when they were
// made and not when they arrived.
func readToken(body io.Reader) (token string, ttl time.Duration, err error) {
	raw, err := io.ReadAll(io.LimitReader(body, maxTokenAnswer+1))
	if err != nil {
		return "", 0, &transient{error: fmt.Errorf("%w: read token: %w", oci.ErrUnavailable, err)}
	}
	if len(raw) > maxTokenAnswer {
		return "", 0, fmt.Errorf("%w: token service answers more than %d bytes", oci.ErrUnavailable, maxTokenAnswer)
	}
	var answer struct {
		Token       string
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		return "", 0, fmt.Errorf("%w: token service answers no JSON", oci.ErrUnavailable)
	}
	token = answer.Token
	if token == "" {
		token = answer.AccessToken
	}
	if !validToken(token) {
		return "", 0, fmt.Errorf("%w: token service answers no token", oci.ErrUnavailable)
	}
	ttl = defaultTokenTTL
	if answer.ExpiresIn > 0 {
		ttl = time.Duration(min(answer.ExpiresIn, maxTokenTTL.Seconds()) * float64(time.Second))
	}
	return token, ttl * 9 / 10, nil
}

func validToken(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] >= 0x7f {
			return false
		}
	}
	return token != "" && len(token) <= maxTokenBytes
}
