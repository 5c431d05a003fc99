package hub_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// start runs a Hub for the time of a test.
func start(t *testing.T, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// random puts an image of two layers into a Hub.
func random(t *testing.T, h *hub.Hub, repo, tag string, sizes ...int64) *images.Image {
	t.Helper()
	image, err := images.Random(t.TempDir(), 1, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.AddTo(h, repo, tag); err != nil {
		t.Fatal(err)
	}
	return image
}

// client is a registry client that does only what it is told.
type client struct {
	t     *testing.T
	h     *hub.Hub
	http  http.Client
	token string
}

func newClient(t *testing.T, h *hub.Hub) *client {
	transport := &http.Transport{DisableCompression: true}
	c := &client{t: t, h: h, http: http.Client{Transport: transport, Timeout: 20 * time.Second}}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// login gets a token for a scope.
func (c *client) login(user, password, scope string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet,
		c.h.TokenURL()+"?"+url.Values{"service": {"registry.docker.io"}, "scope": {scope}}.Encode(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		c.t.Fatalf("token request: %s, %v", resp.Status, err)
	}
	c.token = answer.Token
}

// reply is a response that was read to its end, or to the error that came instead.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (c *client) do(method, path string, header ...string) reply {
	c.t.Helper()
	return c.doCtx(c.t.Context(), method, path, header...)
}

func (c *client) doCtx(ctx context.Context, method, path string, header ...string) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.h.URL()+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: body, err: err}
}

func (c *client) want(r reply, status int) reply {
	c.t.Helper()
	if r.err != nil || r.status != status {
		c.t.Fatalf("got status %d, error %v, body %.200q; want %d", r.status, r.err, r.body, status)
	}
	return r
}

func puller(t *testing.T, h *hub.Hub, repo string) *client {
	t.Helper()
	c := newClient(t, h)
	c.login("", "", "repository:"+repo+":pull")
	return c
}

func fileOf(t *testing.T, b images.Blob) []byte {
	t.Helper()
	raw, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
