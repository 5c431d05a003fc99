package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestEachUpstreamHasItsOwnNumberOfConnections(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("0123456789")) // whatever range was asked for
	}))
	defer server.Close()
	cfg := Default(t.TempDir())
	for name, connections := range map[string]int{"one.test": 1, "eight.test": 8, "default.test": 0, "rangeless.test": 4} {
		client := upstream.Default()
		client.URL = server.URL
		cfg.Upstreams[name] = Upstream{Client: client, Connections: connections}
	}
	u, err := newUpstreams(cfg, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	body, err := u.clients["rangeless.test"].Blob(t.Context(), "app", oci.FromBytes(oci.SHA256, nil), 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	for name, want := range map[string]int{
		"one.test": 1, "eight.test": 8, "default.test": cfg.Transfer.UpstreamConnections, "rangeless.test": 0, "unknown.test": 1,
	} {
		if got := u.connections(oci.Repository{Upstream: name, Path: "app"}); got != want {
			t.Errorf("connections(%s) = %d; want %d", name, got, want)
		}
	}
}
