package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/pullonce/pullonce/oci"
)

const (
	maxRedirectTargets = 4096 // blobs whose redirect is remembered, of one identity
	maxBreakers        = 64   // hosts: the registry, its token service, its CDNs
)

// A Client asks one upstream, in the name of one Identity. Make it with New, which gives that of Farm, and those of others
// with As.
type Client struct {
	*registry
	kind identityKind
	own  *authority // of a client; that of others is in the keyring
}

// A registry is what the Clients of one upstream share.
type registry struct {
	cfg       Config
	log       *slog.Logger
	base      *url.URL
	transport *http.Transport
	learned   learned
	keys      atomic.Pointer[keyring]
	guests    *guests
	breakers  *cache[string, *breaker]
	own       *breaker // of base's host
	streams   *semaphore.Weighted
	small     *semaphore.Weighted
	limits    []*rate.Limiter
	ranges    ranges
	counters  counters
}

// New makes the client of the upstream that cfg describes. It asks nothing yet: an upstream that is down is no error.
// Whoever has several upstreams hands each a log that says which it is.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", cfg.Name, err)
	}
	base, err := parseBase(cfg.address())
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", cfg.Name, err)
	}
	transport, err := newTransport(cfg)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", cfg.Name, err)
	}
	r := &registry{
		cfg:       cfg,
		log:       log,
		base:      base,
		transport: transport,
		guests:    newGuests(),
		breakers:  newCache[string, *breaker](maxBreakers),
		own:       &breaker{limit: cfg.BreakerFailures, wait: cfg.BreakerWait},
		streams:   semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
		small:     semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
	}
	for _, l := range []*Limit{NewLimit(cfg.BytesPerSecond), cfg.Shared} {
		if l != nil {
			r.limits = append(r.limits, l.limiter)
		}
	}
	r.keys.Store(newKeyring(r))
	return &Client{registry: r}, nil
}

// Name is the upstream's name from the configuration.
func (c *Client) Name() string { return c.cfg.Name }

// Close closes the connections that are not in use, of all identities. It ends no Body, and a Client goes on working
// after it.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Ping asks for /v2/, which also teaches the client how the upstream authenticates. The error is nil when the
// upstream answers as a registry does, be it that it wants credentials.
func (c *Client) Ping(ctx context.Context) error {
	a, err := c.open(ctx, request{kind: kindPing, method: http.MethodGet, what: "ping"})
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, a, maxErrorBytes) // so that the connection can be used again
	return a.Close()
}

// explain completes an error with what was asked of which upstream, and tells apart whose end it was: the caller's,
// whose own error it gets, or the upstream's.
func (c *Client) explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s at %s: %w", what, c.cfg.Name, context.Cause(ctx))
	}
	if errors.Is(err, oci.ErrUnavailable) {
		c.counters.failures.Add(1)
	}
	if t, ok := errors.AsType[*transient](err); ok && error(t) == err { //nolint:errorlint // only the outermost is taken off
		err = t.error
	}
	return fmt.Errorf("%s at %s: %w", what, c.cfg.Name, err)
}
