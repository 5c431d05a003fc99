package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullonce/pullonce/oci"
)

const (
	defaultTokenTTL = 60 * time.Second // of the distribution token specification
	maxTokenTTL     = time.Hour
	maxTokenBytes   = 64 << 10  // of a token
	maxTokenAnswer  = 256 << 10 // of the token service's answer
	maxTokens       = 4096      // scopes kept
	clientID        = "pullonce"
)

// token is a token for ch and scope that is still good. Callers that want the same one at once share one request; it goes
// on when one of them leaves.
func (a *authority) token(ctx context.Context, ch challenge) (string, error) {
	key := tokenKey{ch.realm, ch.service, ch.scope}
	if token, ok := a.tokens.get(key); ok {
		return token, nil
	}
	shared := a.flight.DoChan(key.realm+" "+key.service+" "+key.scope, func() (any, error) {
		if token, ok := a.tokens.get(key); ok {
			return token, nil
		}
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), a.registry.cfg.FirstByteTimeout, errNoFirstByte)
		defer cancel()
		token, ttl, err := a.fetch(ctx, ch)
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

// fetch asks the token service. When it refuses credentials that their source has changed meanwhile, it is asked again.
func (a *authority) fetch(ctx context.Context, ch challenge) (token string, ttl time.Duration, err error) {
	creds, err := a.credentials(ctx)
	if err != nil {
		return "", 0, err
	}
	for again := true; ; again = false {
		req, err := a.tokenRequest(ctx, ch, creds)
		if err != nil {
			return "", 0, err
		}
		resp, err := a.registry.roundTrip(ctx, kindToken, req)
		if err != nil {
			return "", 0, err
		}
		if resp.StatusCode == http.StatusUnauthorized && again {
			if other, ok := a.secrets.other(ctx, creds); ok && other.Token == "" {
				discard(resp)
				creds = other
				continue
			}
		}
		return tokenAnswer(resp)
	}
}

func tokenAnswer(resp *http.Response) (token string, ttl time.Duration, err error) {
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

// tokenRequest asks the token service for ch.scope, with creds if there are any and the service is one of those that may
// see them.
func (a *authority) tokenRequest(ctx context.Context, ch challenge, creds Credentials) (*http.Request, error) {
	realm, err := a.registry.realm(ch)
	if err != nil {
		return nil, err
	}
	if !creds.none() && !a.registry.trusts(realm) {
		return nil, fmt.Errorf("%w: registry names a token service, %s, that its credentials may not go to",
			oci.ErrUnauthorized, realm.Host)
	}
	realm.Fragment = ""
	if creds.IdentityToken != "" {
		return a.refreshRequest(ctx, realm, ch, creds), nil
	}
	query := realm.Query()
	if ch.service != "" {
		query.Set("service", ch.service)
	}
	for scope := range strings.FieldsSeq(ch.scope) {
		query.Add("scope", scope)
	}
	header := http.Header{}
	if !creds.none() {
		query.Set("account", creds.Username)
		header.Set("Authorization", basic(creds))
	}
	realm.RawQuery = query.Encode()
	return a.newRequest(ctx, http.MethodGet, realm, header), nil
}

// refreshRequest is the OAuth2 form of the distribution token specification, which takes an identity token.
func (a *authority) refreshRequest(ctx context.Context, realm *url.URL, ch challenge, creds Credentials) *http.Request {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {string(creds.IdentityToken)},
		"service": {ch.service}, "client_id": {clientID}, "scope": {ch.scope},
	}
	text := form.Encode()
	req := a.newRequest(ctx, http.MethodPost, realm, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
	req.ContentLength = int64(len(text))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	req.Body, _ = req.GetBody()
	return req
}

func (a *authority) newRequest(ctx context.Context, method string, u *url.URL, header http.Header) *http.Request {
	header.Set("User-Agent", a.registry.cfg.UserAgent)
	header.Set("Accept", "application/json")
	header.Set("Accept-Encoding", "identity")
	req := &http.Request{Method: method, URL: u, Host: u.Host, Header: header}
	return req.WithContext(ctx)
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
