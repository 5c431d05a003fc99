package adminapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// onSocket serves the door of f on a unix socket and returns a client of it.
func onSocket(t *testing.T, f adminapi.Farm) *adminapi.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "p2p") // a socket's path has room for about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := adminapi.Default()
	cfg.UnixSocket, cfg.Version = true, "v1.2.3"
	server := adminapi.NewServer(adminapi.New(cfg, f, nil, discard()), discard())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return client(t, "unix://"+path)
}

func client(t *testing.T, address string) *adminapi.Client {
	t.Helper()
	c, err := adminapi.NewClient(address)
	if err != nil {
		t.Fatalf("NewClient(%q) = %v; want no error", address, err)
	}
	return c
}

func TestAClientReadsWhatTheDoorSays(t *testing.T) {
	f := newFarm(member{id: "a"}, member{id: "b"})
	f.members[1].node.Served.Peer.Bytes = 1 << 60 // exact, beyond what a float holds
	f.members[1].node.Served.Disk.Bytes = 1
	c := onSocket(t, f)
	s, err := c.Status(t.Context(), 5*time.Second)
	if err != nil || len(s.Members) != 2 || s.Totals.SavedBytes != 1<<60+1 || s.Members[1].Node.Served.HitRatio != 1 {
		t.Errorf("Status() = %+v, %v; want two members and exact sums", s, err)
	}
	n, err := c.Node(t.Context(), time.Second)
	if err != nil || n.ID != "a" {
		t.Errorf("Node() = %+v, %v; want a", n, err)
	}
	l, err := c.Members(t.Context(), 0)
	if err != nil || l.Self != "a" || len(l.Members) != 2 {
		t.Errorf("Members() = %+v, %v; want two, asked from a", l, err)
	}
	v, err := c.Version(t.Context(), time.Second)
	if err != nil || v.Version != "v1.2.3" || v.Protocol < 1 {
		t.Errorf("Version() = %+v, %v; want v1.2.3", v, err)
	}
}

func TestWhatTheDoorRefusesIsAnAnswerError(t *testing.T) {
	c := onSocket(t, newFarm(member{id: "a"}))
	_, err := c.Status(t.Context(), time.Hour)
	answer, ok := errors.AsType[*adminapi.AnswerError](err)
	if !ok || answer.Status != http.StatusBadRequest || answer.Code != "bad_request" {
		t.Errorf("Status(1h) = %v; want an AnswerError bad_request", err)
	}
}

func TestWhereNobodyAnswersIsUnreachable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, address := range []string{"unix://" + dir + "/none", "unix://" + file, "http://" + closed.Addr().String()} {
		_, err := client(t, address).Status(t.Context(), time.Second)
		gone, ok := errors.AsType[*adminapi.UnreachableError](err)
		if !ok || gone.Address != address || strings.Count(err.Error(), dir) > 1 {
			t.Errorf("Status() at %s = %v; want it unreachable, named once", address, err)
		}
	}
}

func TestANodeThatTakesTheCallAndSaysNothingIsUnreachable(t *testing.T) {
	t.Parallel()                                      // it waits for seconds
	listener, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes the call
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	c := client(t, "http://"+listener.Addr().String())
	_, err = c.Version(t.Context(), time.Millisecond)
	if _, ok := errors.AsType[*adminapi.UnreachableError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Version() = %v; want it unreachable by its deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Version(ctx, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("Version() of a caller who gave up = %v; want %v", err, context.Canceled)
	}
}

func TestAnswersThatAreNotANodesAreNamed(t *testing.T) {
	for body, want := range map[string]string{
		"<html>hello</html>":                 "is not a node of Pullonce",
		"{}":                                 "is not a node of Pullonce",
		`{"schema_version": 7}`:              "speaks version 7 of this API, this program 1",
		`{"schema_version": 1, "members": 3`: "is not a node of Pullonce",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		_, err := client(t, server.URL).Members(t.Context(), time.Second)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Members() of %q = %v; want %q", body, err, want)
		}
		server.Close()
	}
	server := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer server.Close()
	if _, err := client(t, server.URL).Members(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "HTTP status 302") {
		t.Errorf("Members() of a redirect = %v; want it not followed", err)
	}
}

func TestAddressesThatAreNotOnesAreRefused(t *testing.T) {
	for _, address := range []string{
		"", "127.0.0.1:5080", "/run/p2pd.sock", "unix://p2pd.sock", "unix:", "https://127.0.0.1:5080", "http://", "http://:80",
		"http://u:p@127.0.0.1", "http://127.0.0.1/v1", "http://127.0.0.1?x=1", "http://127.0.0.1#f", "http://[::1", "ftp://a",
	} {
		if c, err := adminapi.NewClient(address); err == nil {
			t.Errorf("NewClient(%q) = %v; want an error", address, c.Address())
		}
	}
}
