package registryapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// raw sends bytes as they are and reads one response.
func raw(t *testing.T, server *httptest.Server, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return resp.StatusCode, string(body)
}

func TestBadInput(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for _, test := range []struct {
		path   string
		status int
		code   string
	}{
		{"/v2/../../etc/passwd", 400, "NAME_INVALID"},
		{"/v2/library/../app/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/..", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/.", 400, "NAME_INVALID"},
		{"/v2/library/%2e%2e/app/manifests/1", 400, "NAME_INVALID"},
		{"/../v2/", 400, "NAME_INVALID"},
		{"/v2//app/manifests/1", 400, "NAME_INVALID"},
		{"//v2/app/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library//app/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/", 400, "NAME_INVALID"},
		{"/v2/library/app//manifests/1", 400, "NAME_INVALID"},
		{"/v2/library%2Fapp/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library%2fapp/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app%00/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1%00", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1%0d%0aX:1", 400, "NAME_INVALID"},
		{"/v2/library/app%5c..%5cx/manifests/1", 400, "NAME_INVALID"},
		{"/v2/Library/App/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app-/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/a%20b/manifests/1", 400, "NAME_INVALID"},
		{"/v2/manifests/1", 400, "NAME_INVALID"},
		{"/v2/tags/list", 400, "NAME_INVALID"},
		{"/v2/" + strings.Repeat("a/", 200) + "b/manifests/1", 400, "NAME_INVALID"},
		{"/v2/caf%C3%A9/manifests/1", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/-1", 400, "TAG_INVALID"},
		{"/v2/library/app/manifests/" + strings.Repeat("x", 129), 400, "TAG_INVALID"},
		{"/v2/library/app/manifests/a%2Bb", 400, "TAG_INVALID"},
		{"/v2/library/app/manifests/sha256:abc", 400, "DIGEST_INVALID"},
		{"/v2/library/app/manifests/md5:0123456789abcdef0123456789abcdef", 400, "DIGEST_INVALID"},
		{"/v2/library/app/blobs/1", 400, "DIGEST_INVALID"},
		{"/v2/library/app/blobs/" + strings.ToUpper(unknown), 400, "DIGEST_INVALID"},
		{"/v2/library/app/blobs/" + unknown + "0", 400, "DIGEST_INVALID"},
		{"/v2/library/app/blobs/uploads", 400, "DIGEST_INVALID"},
		{"/v2/library/app/referrers/latest", 400, "DIGEST_INVALID"},
		{"/v2/library/app/manifests/1?ns=evil.example", 404, "NAME_UNKNOWN"},
		{"/v2/library/app/manifests/1?ns=169.254.169.254", 404, "NAME_UNKNOWN"},
		{"/v2/library/app/manifests/1?ns=http://evil", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1?ns=a%00b", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1?ns=%zz", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1?ns=docker.io&ns=quay.io", 400, "NAME_INVALID"},
		{"/v2/library/app/manifests/1?ns=" + strings.Repeat("x", 600), 400, "NAME_INVALID"},
		{"/v2/evil.example/app/manifests/1", 404, "NAME_UNKNOWN"},
		{"/v2/library/app/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"},
		{"/v2/library/app/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"},
		{"/v2/library/app/tags/list?n=99999999999999999999", 400, "PAGINATION_NUMBER_INVALID"},
		{"/v2/library/app/tags/list?last=%0a", 400, "PAGINATION_NUMBER_INVALID"},
		{"/v2/library/app/referrers/" + unknown + "?artifactType=%ff", 400, "MANIFEST_INVALID"},
		{"/v2/library/app/blobs/uploads/1", 404, "UNSUPPORTED"},
		{"/v2/library/app/tags/other", 404, "UNSUPPORTED"},
		{"/v2/library", 404, "UNSUPPORTED"},
		{"/v1/_ping", 404, "UNSUPPORTED"},
		{"/", 404, "UNSUPPORTED"},
		{"/v3/library/app/manifests/1", 404, "UNSUPPORTED"},
	} {
		status, body := raw(t, server, "GET "+test.path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if status != test.status || !strings.Contains(body, `"code":"`+test.code+`"`) {
			t.Errorf("GET %s = %d %s; want %d %s", test.path, status, body, test.status, test.code)
		}
	}
}

func TestHarmlessEscapesAreUnderstood(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for _, path := range []string{
		"/v2/library/app/manifests/%31", "/v2/library/app/manifests/" + strings.Replace(img.index.Digest.String(), ":", "%3A", 1),
		"/v2/library/app/manifests/1?ns=", "/v2/library/app/manifests/1?ns=Docker.IO&x=%zz&x=1",
	} {
		if status, body := raw(t, server, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); status != 200 {
			t.Errorf("GET %s = %d %s; want 200", path, status, body)
		}
	}
}

func TestRequestsThatAreNoHTTP(t *testing.T) {
	server := serve(t, testConfig(), newMemory())
	for name, request := range map[string]string{
		"NUL in the request line": "GET /v2/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"bad escape":              "GET /v2/%zz/manifests/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no host":                 "GET /v2/ HTTP/1.1\r\n\r\n",
		"garbage":                 "\x16\x03\x01 hello\r\n\r\n",
	} {
		if status, body := raw(t, server, request); status != 400 {
			t.Errorf("%s: %d %s; want 400", name, status, body)
		}
	}
	huge := "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n"
	if status, _ := raw(t, server, huge); status != 431 {
		t.Errorf("80 KiB of header: %d; want 431", status)
	}
}

func TestABodyThatNeverComesIsNotWaitedFor(t *testing.T) {
	cfg := testConfig()
	cfg.ReadHeaderTimeout = 200 * time.Millisecond
	server := serve(t, cfg, newMemory())
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	request := "POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 405 ") {
		t.Errorf("push without its body: %q, %v; want 405 and the connection closed", all, err)
	}
}

func TestOtherHostNamesAreRefused(t *testing.T) {
	cfg := testConfig()
	cfg.Hosts = []string{"Mirror.Example"}
	cfg.Listen = []string{"10.0.0.5:5000", "[fd00::5]:5000", "node.example:5000"}
	door := newDoor(t, cfg, newMemory(), nil)
	cfg.Listen = []string{"0.0.0.0:5000"}
	open := newDoor(t, cfg, newMemory(), nil)
	for _, test := range []struct {
		host      string
		here, any bool // listening on given addresses, on all
	}{
		{"localhost", true, true},
		{"localhost:5000", true, true},
		{"LOCALHOST:1", true, true},
		{"localhost.:5000", true, true},
		{"127.0.0.1:5000", true, true},
		{"127.8.9.10", true, true},
		{"[::1]:5000", true, true},
		{"[::1]", true, true},
		{"[::ffff:127.0.0.1]:5000", true, true},
		{"mirror.example", true, true},
		{"MIRROR.example:80", true, true},
		{"10.0.0.5:5000", true, true},
		{"10.0.0.5", true, true},
		{"[fd00::5]:5000", true, true},
		{"node.example:5000", true, false},
		{"10.0.0.6:5000", false, true},
		{"[fd00::6]", false, true},
		{"evil.example", false, false},
		{"localhost.evil.example:5000", false, false},
		{"127.0.0.1.evil.example", false, false},
		{"", false, false},
		{"[::1", false, false},
		{"[::1]x", false, false},
		{"localhost:x", false, false},
		{"[localhost", false, false},
	} {
		check := func(listening string, door http.Handler, want bool) {
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Host = test.host
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			if want && w.Code != 200 || !want && (w.Code != 421 || !strings.Contains(w.Body.String(), `"DENIED"`)) {
				t.Errorf("Host %q, listening on %s: %d %s; allowed should be %t", test.host, listening, w.Code, w.Body, want)
			}
		}
		check("given addresses", door, test.here)
		check("all addresses", open, test.any)
	}
}
