package registryapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// pipes is a listener whose connections are pipes, so that a server runs inside a synctest bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// inBubble runs a door on pipes in a synctest bubble.
func inBubble(t *testing.T, registry *memory, test func(t *testing.T, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		if registry.setup != nil {
			registry.setup()
		}
		p := newPipes()
		server := registryapi.NewServer(testConfig(), newDoor(t, testConfig(), registry, nil), quiet())
		done := make(chan error)
		go func() { done <- server.Serve(p) }()
		test(t, p)
		if err := server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// get sends a GET and reads the header of the answer.
func get(t *testing.T, p *pipes, path string) (net.Conn, *http.Response) {
	t.Helper()
	conn := p.dial()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return conn, resp
}

// scripted is a blob whose Ready and WriteRange are what the test says.
type scripted struct {
	size   int64
	ready  func(ctx context.Context) error
	write  func(ctx context.Context, w io.Writer) error
	closed chan struct{}
}

func (b *scripted) Size() int64  { return b.size }
func (b *scripted) Close() error { close(b.closed); return nil }
func (b *scripted) Ready(ctx context.Context, _ int64) error {
	if b.ready == nil {
		return nil
	}
	return b.ready(ctx)
}

func (b *scripted) WriteRange(ctx context.Context, w io.Writer, _, _ int64) error {
	return b.write(ctx, w)
}

// withBlob is a registry of one blob that behaves as scripted; the path leads to it.
func withBlob(b *scripted) (*memory, string) {
	registry := newMemory()
	registry.setup = func() { b.closed = make(chan struct{}) }
	d := registry.addBlob(oci.Repository{Upstream: "docker.io", Path: "library/app"}, []byte("script")).Digest
	registry.open = func([]byte) registryapi.Blob { return b }
	return registry, "/v2/library/app/blobs/" + d.String()
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatHangsIsAnswered503InTime(t *testing.T) {
	for name, path := range map[string]string{
		"manifest": "/v2/library/app/manifests/1", "tags": "/v2/library/app/tags/list",
		"blob": "/v2/library/app/blobs/" + unknown, "referrers": "/v2/library/app/referrers/" + unknown,
	} {
		t.Run(name, func(t *testing.T) {
			registry := newMemory()
			registry.fault = hang
			inBubble(t, registry, func(t *testing.T, p *pipes) { want503InTime(t, p, path) })
		})
	}
	for name, b := range map[string]*scripted{
		"Ready":      {size: 6, ready: hang},
		"WriteRange": {size: 6, write: func(ctx context.Context, _ io.Writer) error { return hang(ctx) }},
	} {
		t.Run(name, func(t *testing.T) {
			registry, path := withBlob(b)
			inBubble(t, registry, func(t *testing.T, p *pipes) {
				want503InTime(t, p, path)
				<-b.closed
			})
		})
	}
}

func want503InTime(t *testing.T, p *pipes, path string) {
	t.Helper()
	start := time.Now()
	conn, resp := get(t, p, path)
	defer func() { _ = conn.Close() }()
	took := time.Since(start)
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || took > 10*time.Second || err != nil || !strings.Contains(string(body), `"UNAVAILABLE"`) {
		t.Errorf("GET %s: %d after %v with %q, %v; want 503 within 10s", path, resp.StatusCode, took, body, err)
	}
	for _, name := range []string{"Etag", "Docker-Content-Digest", "Retry-After", "Accept-Ranges"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("GET %s: 503 with %s: %s", path, name, resp.Header.Get(name))
		}
	}
}

func TestTheHeaderDoesNotWaitForTheBody(t *testing.T) {
	b := &scripted{size: 6, write: func(ctx context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "s"); err != nil {
			return err
		}
		time.Sleep(25 * time.Second)
		_, err := io.WriteString(w, "cript")
		return err
	}}
	registry, path := withBlob(b)
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		start := time.Now()
		conn, resp := get(t, p, path)
		defer func() { _ = conn.Close() }()
		if took := time.Since(start); took > time.Second || resp.StatusCode != 200 {
			t.Errorf("header with %d after %v; want 200 at once", resp.StatusCode, took)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "script" || err != nil {
			t.Errorf("body %q, %v; want all of it", body, err)
		}
	})
}

func TestASlowSourceThatGetsOnIsNotCutOff(t *testing.T) {
	const steps = 30
	b := &scripted{size: steps, write: func(_ context.Context, w io.Writer) error {
		for range steps {
			if _, err := io.WriteString(w, "x"); err != nil {
				return err
			}
			time.Sleep(20 * time.Second)
		}
		return nil
	}}
	registry, path := withBlob(b)
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		conn, resp := get(t, p, path)
		defer func() { _ = conn.Close() }()
		if body, err := io.ReadAll(resp.Body); len(body) != steps || err != nil {
			t.Errorf("ten minutes at a byte in 20 s gave %d bytes, %v; want %d", len(body), err, steps)
		}
	})
}

func TestABodyThatFailsIsCutOffWithNothingAppended(t *testing.T) {
	begin := strings.Repeat("begin", 20_000) // more than the server buffers
	begun := func(after func(ctx context.Context) error) func(context.Context, io.Writer) error {
		return func(ctx context.Context, w io.Writer) error {
			if _, err := io.WriteString(w, begin); err != nil {
				return err
			}
			return after(ctx)
		}
	}
	for name, test := range map[string]struct {
		write func(context.Context, io.Writer) error
		after time.Duration
	}{
		"stalls":     {begun(hang), registryapi.Default().StallTimeout},
		"fails":      {begun(func(context.Context) error { return &oci.MismatchError{Digest: oci.MustDigest(unknown)} }), 0},
		"ends short": {begun(func(context.Context) error { return nil }), 0},
		"overruns": {func(_ context.Context, w io.Writer) error {
			if _, err := io.WriteString(w, begin); err != nil {
				return err
			}
			_, err := io.WriteString(w, "ing and an error in JSON")
			return err
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := &scripted{size: int64(len(begin)) + 3, write: test.write}
			registry, path := withBlob(b)
			inBubble(t, registry, func(t *testing.T, p *pipes) {
				start := time.Now()
				conn, resp := get(t, p, path)
				defer func() { _ = conn.Close() }()
				body, err := io.ReadAll(resp.Body)
				if string(body) != begin || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%d bytes of body, %v; want the %d that were written and an unexpected end", len(body), err, len(begin))
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("cut off after %v; want %v", took, test.after)
				}
				<-b.closed
			})
		})
	}
}

func TestAnOverrunInOneWriteSendsNothing(t *testing.T) {
	b := &scripted{size: 6, write: func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader("script and more"))
		return err
	}}
	registry, path := withBlob(b)
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		conn, resp := get(t, p, path)
		defer func() { _ = conn.Close() }()
		if resp.StatusCode != 500 {
			t.Errorf("blob that writes too much: %d; want 500", resp.StatusCode)
		}
	})
}

func TestAStalledClientIsLetGo(t *testing.T) {
	b := &scripted{size: 1 << 20, write: func(_ context.Context, w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return err
	}}
	registry, path := withBlob(b)
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		start := time.Now()
		conn, resp := get(t, p, path)
		defer func() { _ = conn.Close() }()
		if resp.StatusCode != 200 {
			t.Fatalf("status %d; want 200", resp.StatusCode)
		}
		<-b.closed // without one byte of the body read
		if took, want := time.Since(start), registryapi.Default().ClientTimeout; took != want {
			t.Errorf("stalled client let go after %v; want %v", took, want)
		}
	})
}

func TestAStalledClientOfAManifestIsLetGo(t *testing.T) {
	registry := newMemory()
	registry.addManifest(oci.Repository{Upstream: "docker.io", Path: "library/app"}, "1", oci.MediaTypeOCIManifest,
		map[string]string{"x": strings.Repeat("x", 1<<20)})
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		conn, resp := get(t, p, "/v2/library/app/manifests/1")
		defer func() { _ = conn.Close() }()
		time.Sleep(2 * time.Minute)
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("after two minutes without reading the client got all of %d bytes; want the connection closed", len(body))
		}
	})
}

func TestAClientThatLeavesEndsItsWait(t *testing.T) {
	b := &scripted{size: 6, ready: hang}
	registry, path := withBlob(b)
	inBubble(t, registry, func(t *testing.T, p *pipes) {
		start := time.Now()
		conn := p.dial()
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = conn.Close()
		<-b.closed
		if took := time.Since(start); took != 0 {
			t.Errorf("the wait of a client that left went on for %v; want none", took)
		}
	})
}

func TestASlowRequestIsCutOff(t *testing.T) {
	inBubble(t, newMemory(), func(t *testing.T, p *pipes) {
		start := time.Now()
		conn := p.dial()
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /v2/ HTTP/1.1\r\nHo"); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(conn)
		if took := time.Since(start); err != nil || took > 11*time.Second {
			t.Errorf("half a header was waited for %v, %v; want the end after 10s", took, err)
		}
	})
}

func TestConnectionsBeyondTheLimitAreClosedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxConnections = 2
		p := newPipes()
		server := registryapi.NewServer(cfg, newDoor(t, cfg, newMemory(), nil), quiet())
		done := make(chan error)
		go func() { done <- server.Serve(p) }()
		first, _ := get(t, p, "/v2/")
		second, _ := get(t, p, "/v2/")
		third := p.dial()
		if _, err := third.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("third of two connections: %v; want it closed", err)
		}
		_ = first.Close()
		synctest.Wait()
		fourth, resp := get(t, p, "/v2/")
		if resp.StatusCode != 200 {
			t.Errorf("after one was closed: %d; want 200", resp.StatusCode)
		}
		_, _ = second.Close(), fourth.Close()
		_ = server.Close()
		<-done
	})
}
