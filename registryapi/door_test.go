package registryapi_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

func testConfig() registryapi.Config {
	cfg := registryapi.Default()
	cfg.Names.Upstreams = []string{oci.DockerHub, "quay.io", "ghcr.io"}
	return cfg
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newDoor(t testing.TB, cfg registryapi.Config, registry registryapi.Registry, reg prometheus.Registerer) *registryapi.Handler {
	t.Helper()
	door, err := registryapi.New(cfg, registry, quiet(), reg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return door
}

// serve runs a door on a loopback address until the test ends.
func serve(t testing.TB, cfg registryapi.Config, registry registryapi.Registry) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	cfg.Listen = []string{server.Listener.Addr().String()}
	server.Config = registryapi.NewServer(cfg, newDoor(t, cfg, registry, nil), quiet())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	length int64
	body   string
}

// ask sends a request; header is pairs of names and values.
func ask(t testing.TB, server *httptest.Server, method, path string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(body)}
}

// wantError checks an answer that is an error of the specification's form.
func wantError(t *testing.T, what string, got answer, status int, code string) {
	t.Helper()
	if got.status != status {
		t.Errorf("%s: status %d; want %d (%s)", what, got.status, status, got.body)
	}
	if want := `{"errors":[{"code":"` + code + `","message":"`; !strings.HasPrefix(got.body, want) {
		t.Errorf("%s: body %s; want %s…", what, got.body, want)
	}
	if mediaType := got.header.Get("Content-Type"); !strings.HasPrefix(mediaType, "application/json") {
		t.Errorf("%s: Content-Type %q; want application/json", what, mediaType)
	}
}
