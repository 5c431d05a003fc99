package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadCountsWhatTheServerAnswered(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"schemaVersion":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(plainHandler(dir))
	defer server.Close()
	r, err := load(t.Context(), server.URL+"/"+manifestFile, "*/*", 4, 50*time.Millisecond)
	if err != nil || r.perSecond <= 0 || r.p99 <= 0 {
		t.Errorf("load = %+v, %v; want requests", r, err)
	}
	if _, err := load(t.Context(), server.URL+"/blob/none", "*/*", 1, 50*time.Millisecond); err == nil {
		t.Error("load took answers other than 200")
	}
}

func TestAResponseIsSkippedToItsEnd(t *testing.T) {
	two := "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX: y\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	r := bufio.NewReader(strings.NewReader(two))
	for i := range 2 {
		if err := skipResponse(r); err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q is left", rest)
	}
	for _, bad := range []string{"", "HTTP/1.1 503 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"} {
		if err := skipResponse(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("skipResponse(%q) took it", bad)
		}
	}
}

func TestThePlainServerServesFiles(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789"), 1000)
	if err := os.WriteFile(filepath.Join(dir, "abc"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(plainHandler(dir))
	defer server.Close()
	got, err := fetch(t.Context(), http.DefaultClient, server.URL+"/blob/abc")
	if err != nil || got.bytes != int64(len(want)) || got.first <= 0 || got.took < got.first {
		t.Errorf("fetch = %+v, %v; want %d bytes", got, err, len(want))
	}
}
