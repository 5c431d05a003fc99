package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// WithToken is a client that says the admin token of the node where it changes something or backs the catalog up, which
// nodes ask for over HTTP.
func (c *Client) WithToken(token string) *Client {
	other := *c
	other.token = token
	return &other
}

// sign puts the admin token into a request.
func (c *Client) sign(r *http.Request) {
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
}

// Loopback tells whether what the client sends stays on this host.
func (c *Client) Loopback() bool {
	if strings.HasPrefix(c.address, "unix:") {
		return true
	}
	u, err := url.Parse(c.base)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// Trust asks for the node's part in the farm's trust.
func (c *Client) Trust(ctx context.Context, timeout time.Duration) (TrustStatus, error) {
	var s TrustStatus
	err := c.get(ctx, trustPath, timeout, &s, &s.SchemaVersion)
	return s, err
}

// FarmCA asks for the certificates of the farm's CA, which clients of the farm's registries beyond their own host trust.
func (c *Client) FarmCA(ctx context.Context, timeout time.Duration) (FarmCA, error) {
	var ca FarmCA
	err := c.get(ctx, caPath, timeout, &ca, &ca.SchemaVersion)
	return ca, err
}

// Tokens asks for the join tokens of the farm.
func (c *Client) Tokens(ctx context.Context, timeout time.Duration) (TokenList, error) {
	var l TokenList
	err := c.get(ctx, tokensPath, timeout, &l, &l.SchemaVersion)
	return l, err
}

// CreateToken has the farm make a join token. Its secret is in this answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, ttl time.Duration, uses int) (NewToken, error) {
	var t NewToken
	query := url.Values{"ttl": {ttl.String()}, "uses": {strconv.Itoa(uses)}}
	err := c.post(ctx, tokensPath+"?"+query.Encode(), nil, 0, &t, &t.SchemaVersion)
	return t, err
}

// DropToken makes a token of no use, and returns those that are left.
func (c *Client) DropToken(ctx context.Context, id string) (TokenList, error) {
	var l TokenList
	err := c.post(ctx, dropTokenPath+"?"+url.Values{"id": {id}}.Encode(), nil, 0, &l, &l.SchemaVersion)
	return l, err
}

// RevokeNode shuts a node out of the farm.
func (c *Client) RevokeNode(ctx context.Context, id string) (TrustStatus, error) {
	return c.steer(ctx, revokeNodePath+"?"+url.Values{"id": {id}}.Encode())
}

// ReadmitNode takes the revocation of a node back.
func (c *Client) ReadmitNode(ctx context.Context, id string) (TrustStatus, error) {
	return c.steer(ctx, readmitNodePath+"?"+url.Values{"id": {id}}.Encode())
}

// RotateKey gives the gossip of the farm a new key.
func (c *Client) RotateKey(ctx context.Context) (TrustStatus, error) {
	return c.steer(ctx, rotateKeyPath)
}

func (c *Client) steer(ctx context.Context, path string) (TrustStatus, error) {
	var s TrustStatus
	err := c.post(ctx, path, nil, 0, &s, &s.SchemaVersion)
	return s, err
}
