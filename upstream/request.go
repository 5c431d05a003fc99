package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/semaphore"

	"github.com/pullonce/pullonce/oci"
)

// A request is one question to the registry. All of them may be asked again without harm.
type request struct {
	kind       kind
	method     string
	repository string // "" for /v2/ itself
	path       string // below the repository: "manifests/latest"
	query      url.Values
	accept     string
	byteRange  string     // the Range header, "" for none
	blob       oci.Digest // set for the GET of a blob, whose redirect is remembered
	by         *authority // of who asks; set with each attempt
	what       string     // for errors: "manifest latest of library/nginx"
}

// An answer is a response whose headers are there and whose status is 200 or 206.
type answer struct {
	*reader
	header http.Header
	status int
	length int64 // Content-Length, -1 when there is none
}

// open asks until there is an answer, an error that another try would not change, or the first-byte timeout. The
// caller closes the answer.
func (c *Client) open(ctx context.Context, r request) (*answer, error) {
	slots := c.slots(r.kind)
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, c.explain(ctx, r.what, err)
	}
	began := time.Now()
	own, cancel := context.WithCancelCause(ctx)
	deadline := time.AfterFunc(c.cfg.FirstByteTimeout, func() { cancel(errNoFirstByte) })
	resp, err := c.persist(own, r)
	if !deadline.Stop() && err == nil { // it is too late for the body: own is cancelled
		_ = resp.Body.Close()
		err = fmt.Errorf("%w: %w", oci.ErrUnavailable, errNoFirstByte)
	}
	if err != nil {
		cancel(errClosed)
		slots.Release(1)
		return nil, c.explain(ctx, r.what, err)
	}
	body := &reader{
		client: c, ctx: own, cancel: cancel, src: resp.Body, want: resp.ContentLength, what: r.what,
		firstBy: began.Add(c.cfg.FirstByteTimeout), release: func() { slots.Release(1) },
	}
	return &answer{body, resp.Header, resp.StatusCode, resp.ContentLength}, nil
}

// slots bounds blobs apart from all else, so that a manifest does not wait for a layer to end.
func (c *Client) slots(k kind) *semaphore.Weighted {
	if k == kindBlob {
		return c.streams
	}
	return c.small
}

// persist repeats attempts that fail for a reason that may be over soon.
func (c *Client) persist(ctx context.Context, r request) (*http.Response, error) {
	pause := c.pause()
	for try := 0; ; try++ {
		resp, err := c.attempt(ctx, r)
		if err == nil {
			return resp, nil
		}
		t, ok := errors.AsType[*transient](err)
		if !ok || try >= c.cfg.Retries || !sleep(ctx, max(t.wait, pause.NextBackOff())) {
			return nil, err
		}
		c.counters.retries.Add(1)
		c.log.LogAttrs(ctx, slog.LevelDebug, "upstream request is retried",
			slog.String("what", r.what), slog.Int("try", try+1), slog.Any("error", err))
	}
}

func (c *Client) pause() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: c.cfg.RetryWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 16 * c.cfg.RetryWait,
	}
}

// sleep waits and tells whether ctx lasted longer.
func sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c *Client) target(r request) *url.URL {
	u := *c.base
	u.Path += "/v2/"
	if r.repository != "" {
		u.Path += r.repository + "/" + r.path
	}
	u.RawQuery = r.query.Encode()
	return &u
}

func (c *Client) newRequest(ctx context.Context, r request, target *url.URL, authorization string) *http.Request {
	header := http.Header{
		"User-Agent":      {c.cfg.UserAgent},
		"Accept-Encoding": {"identity"}, // bytes must come as the digest names them
	}
	for name, value := range map[string]string{
		"Accept": r.accept, "Range": r.byteRange, "Authorization": authorization,
	} {
		if value != "" {
			header.Set(name, value)
		}
	}
	req := &http.Request{Method: r.method, URL: target, Host: target.Host, Header: header}
	return req.WithContext(ctx)
}

// roundTrip sends one request to one host, counts it, and minds the host's breaker. The error is transient, unless
// another try cannot help or is not wanted.
func (g *registry) roundTrip(ctx context.Context, k kind, req *http.Request) (*http.Response, error) {
	b := g.breakerOf(req.URL)
	if !b.allow() {
		return nil, fmt.Errorf("%w: %w for %s", oci.ErrUnavailable, errBreaker, req.URL.Host)
	}
	g.counters.requests[k].Add(1)
	resp, err := g.transport.RoundTrip(req)
	v := judge(ctx, resp, err)
	g.report(ctx, req.URL.Host, b, v, why(resp, err))
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		g.counters.tooManyRequests.Add(1)
	}
	if k != kindToken && sameOrigin(req.URL, g.base) {
		g.counters.noteRateLimit(resp.Header)
	}
	return resp, nil
}

func judge(ctx context.Context, resp *http.Response, err error) verdict {
	switch {
	case err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), errNoFirstByte):
		return unknown
	case err != nil && ctx.Err() != nil:
		return hanging
	case err != nil || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return failing
	}
	return healthy
}

// why says how a request ended, for the log.
func why(resp *http.Response, err error) slog.Attr {
	if err != nil {
		return slog.Any("error", err)
	}
	return slog.Int("status", resp.StatusCode)
}

func (g *registry) report(ctx context.Context, host string, b *breaker, v verdict, why slog.Attr) {
	switch opened, closed := b.done(v); {
	case opened:
		g.log.LogAttrs(ctx, slog.LevelWarn, "upstream host is left alone for a while", slog.String("host", host), why)
	case closed:
		g.log.LogAttrs(ctx, slog.LevelInfo, "upstream host answers again", slog.String("host", host))
	}
}

func connectionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", oci.ErrUnavailable, context.Cause(ctx))
	}
	failed := fmt.Errorf("%w: %w", oci.ErrUnavailable, err)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed
	}
	return &transient{error: failed}
}

// breakerOf is the breaker of a host. Those of hosts other than the registry's are forgotten after a while.
func (g *registry) breakerOf(u *url.URL) *breaker {
	if u.Host == g.base.Host {
		return g.own
	}
	if b, ok := g.breakers.get(u.Host); ok {
		return b
	}
	b := &breaker{limit: g.cfg.BreakerFailures, wait: g.cfg.BreakerWait}
	g.breakers.put(u.Host, b, breakerMemory)
	return b
}

const breakerMemory = time.Hour

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }
