package upstream

import (
	"context"
	"net/http"
	"time"
)

// ask sends r to the registry itself, with what it wants to see as Authorization. The response may have any status.
func (c *Client) ask(ctx context.Context, r request) (*http.Response, error) {
	if r.kind == kindPing {
		return c.ping(ctx, r)
	}
	authorization, err := r.by.authorize(ctx, r.repository)
	if err != nil {
		return nil, err
	}
	target := c.target(r)
	resp, err := c.roundTrip(ctx, r.kind, c.newRequest(ctx, r, target, authorization))
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		headers := resp.Header.Values("WWW-Authenticate")
		discard(resp)
		authorization, err = r.by.challenged(ctx, r.repository, authorization, headers)
	case hides(resp) && authorization == "" && r.by.secrets != nil:
		if authorization, err = c.introduce(ctx, r.by, r.repository); authorization == "" && err == nil {
			return resp, nil
		}
		discard(resp)
	default:
		return resp, nil
	}
	if err != nil {
		return nil, err
	}
	return c.roundTrip(ctx, r.kind, c.newRequest(ctx, r, target, authorization))
}

// hides tells whether an answer may be for those who have not said who they are: some registries do not tell them what
// there is, and do not ask them either.
func hides(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden
}

// introduce is the Authorization for a registry that has refused who had none without asking for any, "" when it never
// asks.
func (c *Client) introduce(ctx context.Context, a *authority, repository string) (string, error) {
	if c.learned.get().scheme == "" && c.learned.due(time.Now()) {
		resp, err := c.ping(ctx, request{kind: kindPing, method: http.MethodGet, by: a})
		if err != nil {
			return "", err
		}
		discard(resp)
	}
	a.giveUp(challenge{})
	return a.authorize(ctx, repository)
}

// ping asks for /v2/ without any Authorization, and takes 401 for a good answer.
func (c *Client) ping(ctx context.Context, r request) (*http.Response, error) {
	resp, err := c.roundTrip(ctx, r.kind, c.newRequest(ctx, r, c.target(r), ""))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	headers := resp.Header.Values("WWW-Authenticate")
	discard(resp)
	r.by.learn(headers)
	resp.StatusCode, resp.Body, resp.ContentLength = http.StatusOK, http.NoBody, 0
	return resp, nil
}
