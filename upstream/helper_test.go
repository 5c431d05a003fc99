package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repo = "library/app"

// client makes the client of an upstream at url and closes it with the test.
func client(t *testing.T, url string, change func(*upstream.Config)) *upstream.Client {
	t.Helper()
	cfg := upstream.Default()
	cfg.URL, cfg.RetryWait = url, time.Millisecond
	if change != nil {
		change(&cfg)
	}
	c, err := upstream.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func startHub(t *testing.T, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// put stores a blob of n random bytes at h.
func put(t *testing.T, h *hub.Hub, repository string, n int) (oci.Digest, []byte) {
	t.Helper()
	data := random(n)
	d, err := h.PutBlob(repository, data)
	if err != nil {
		t.Fatal(err)
	}
	return oci.MustDigest(d.String()), data
}

// putManifest stores a small OCI manifest at h under tag.
func putManifest(t *testing.T, h *hub.Hub, repository, tag string) (oci.Digest, []byte) {
	t.Helper()
	config, data := put(t, h, repository, 100)
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		oci.MediaTypeOCIManifest, config, len(data))
	d, err := h.PutManifest(repository, tag, oci.MediaTypeOCIManifest, raw)
	if err != nil {
		t.Fatal(err)
	}
	return oci.MustDigest(d.String()), raw
}

func random(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return data
}

func digestOf(data []byte) oci.Digest { return oci.FromBytes(oci.SHA256, data) }

// fetch reads a whole blob by Blob.
func fetch(ctx context.Context, c *upstream.Client, d oci.Digest, off, n int64) ([]byte, error) {
	body, err := c.Blob(ctx, repo, d, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// A registry is one that a test writes itself. It counts requests by "METHOD path".
type registry struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func serve(t *testing.T, handler http.HandlerFunc) *registry {
	t.Helper()
	r := &registry{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, q.Method+" "+q.URL.Path)
		r.mu.Unlock()
		handler(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *registry) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

// pipes is a network of net.Pipes for tests in a synctest bubble: every connection is answered by serve, request by
// request, until it returns false.
type pipes struct {
	wg    sync.WaitGroup
	serve func(q *http.Request, conn net.Conn) (again bool)
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.wg.Go(func() {
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for {
			q, err := http.ReadRequest(r)
			if err != nil || !p.serve(q, theirs) {
				return
			}
		}
	})
	return ours, nil
}

// in makes a client whose network p is, for a test in a bubble.
func (p *pipes) in(t *testing.T, change func(*upstream.Config)) *upstream.Client {
	t.Helper()
	c := client(t, "http://registry.test", func(cfg *upstream.Config) {
		cfg.Dial = p.dial
		if change != nil {
			change(cfg)
		}
	})
	t.Cleanup(func() { c.Close(); p.wg.Wait() })
	return c
}

// reply writes a response with a body to a pipe.
func reply(conn net.Conn, status int, headers, body string) bool {
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), headers, body)
	return err == nil
}

// hang holds a connection until the client closes it.
func hang(conn net.Conn) bool {
	_, _ = io.Copy(io.Discard, conn)
	return false
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ from the %d wanted", what, len(got), len(want))
	}
}

// logged is a log that a test can look into.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
