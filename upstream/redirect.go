package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/pullonce/pullonce/oci"
)

// maxRedirects bounds the hops after the registry's own answer.
const maxRedirects = 5

// A redirectKey names a blob as one repository sees it: the registry has looked at the rights for that repository.
type redirectKey struct {
	repository string
	blob       oci.Digest
}

// attempt asks once, along redirects. A blob whose target is known from before is asked for there first; when that
// has expired, the registry gives a fresh one.
func (c *Client) attempt(ctx context.Context, r request) (*http.Response, error) {
	r.by = c.authority(r.repository)
	if resp, ok, err := c.remembered(ctx, r); ok {
		return resp, err
	}
	for fresh := 0; ; fresh++ {
		resp, err := c.ask(ctx, r)
		if err != nil {
			return nil, err
		}
		if !isRedirect(resp) {
			return checked(resp, statusError(resp))
		}
		resp, err = c.follow(ctx, r, c.target(r), resp)
		if err != nil {
			return nil, err
		}
		if refused(resp) && fresh == 0 { // expired already, or not there yet
			discard(resp)
			continue
		}
		return c.arrived(r, resp)
	}
}

// remembered tries the target that an earlier redirect of the blob led to. Not ok: there is none any more.
func (c *Client) remembered(ctx context.Context, r request) (resp *http.Response, ok bool, err error) {
	if r.blob.IsZero() {
		return nil, false, nil
	}
	key := redirectKey{r.repository, r.blob}
	target, ok := r.by.redirects.get(key)
	if !ok {
		return nil, false, nil
	}
	resp, err = c.hop(ctx, r, target)
	if err == nil {
		if status := statusError(resp); status == nil || errors.Is(status, ErrNoRange) {
			resp, err = checked(resp, status)
			return resp, true, err
		}
		discard(resp)
	}
	r.by.redirects.dropIf(key, func(u *url.URL) bool { return u == target })
	if ctx.Err() != nil {
		return nil, true, fmt.Errorf("%w: %w", oci.ErrUnavailable, context.Cause(ctx))
	}
	return nil, false, nil
}

// arrived judges the answer of a redirect's target and remembers where a blob was found.
func (c *Client) arrived(r request, resp *http.Response) (*http.Response, error) {
	at := resp.Request.URL
	if refused(resp) {
		return checked(resp, fmt.Errorf("%w: %w, %s answers status %d", oci.ErrUnavailable, errStorage, at.Host, resp.StatusCode))
	}
	if err := statusError(resp); err != nil {
		return checked(resp, err)
	}
	if !r.blob.IsZero() && !sameOrigin(at, c.base) {
		r.by.redirects.put(redirectKey{r.repository, r.blob}, at, c.cfg.RedirectTTL)
	}
	return resp, nil
}

// follow goes from a redirect to the answer behind it, which may have any status but that of a redirect.
func (c *Client) follow(ctx context.Context, r request, from *url.URL, resp *http.Response) (*http.Response, error) {
	for range maxRedirects {
		target, err := location(from, resp)
		discard(resp)
		if err != nil {
			return nil, err
		}
		c.counters.redirects.Add(1)
		if resp, err = c.hop(ctx, r, target); err != nil {
			return nil, err
		}
		if !isRedirect(resp) {
			return resp, nil
		}
		from = target
	}
	discard(resp)
	return nil, fmt.Errorf("%w: more than %d redirects", oci.ErrUnavailable, maxRedirects)
}

// hop asks a redirect's target. The Authorization is for the registry's own origin and goes to no other.
func (c *Client) hop(ctx context.Context, r request, target *url.URL) (*http.Response, error) {
	authorization := ""
	if sameOrigin(target, c.base) {
		var err error
		if authorization, err = r.by.authorize(ctx, r.repository); err != nil {
			return nil, err
		}
	}
	return c.roundTrip(ctx, r.kind, c.newRequest(ctx, r, target, authorization))
}

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// refused tells whether a redirect's target says no to what the registry said yes to, as it does to an expired URL.
func refused(resp *http.Response) bool {
	return resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests &&
		resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusRequestedRangeNotSatisfiable
}

// location is where resp, an answer of from, redirects to. Its errors name no more than a host: the rest of a signed
// URL is a secret.
func location(from *url.URL, resp *http.Response) (*url.URL, error) {
	target, err := from.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil || resp.Header.Get("Location") == "" || target.Host == "" || target.User != nil:
		return nil, fmt.Errorf("%w: %s redirects to no usable URL", oci.ErrUnavailable, from.Host)
	case target.Scheme != "https" && target.Scheme != "http":
		return nil, fmt.Errorf("%w: %s redirects to a scheme that is not HTTP", oci.ErrUnavailable, from.Host)
	case from.Scheme == "https" && target.Scheme == "http":
		return nil, fmt.Errorf("%w: %s redirects to %s without TLS", oci.ErrUnavailable, from.Host, target.Host)
	}
	target.Fragment = ""
	return target, nil
}

// checked passes resp on, or disposes of it when there is an error.
func checked(resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		discard(resp)
		return nil, err
	}
	return resp, nil
}
