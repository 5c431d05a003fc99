package registryapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

const benchConnections = 64

// BenchmarkManifest measures cached manifests over loopback from 64 connections, client beside it on the same cores,
// against a handler that answers the same bytes and headers without looking at the request.
func BenchmarkManifest(b *testing.B) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	door := serve(b, testConfig(), registry)
	raw := registry.manifests[img.repo]["1"].Raw
	static := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header["Content-Type"] = []string{oci.MediaTypeDockerList}
		header["Content-Length"] = []string{strconv.Itoa(len(raw))}
		_, _ = w.Write(raw)
	}))
	b.Cleanup(static.Close)
	accept := "Accept: " + strings.Join(dockerAccept, "\r\nAccept: ") + "\r\n"
	byDigest := "/v2/library/app/manifests/" + img.index.Digest.String()
	b.Run("static", func(b *testing.B) { pound(b, static, byDigest, accept) })
	b.Run("by-digest", func(b *testing.B) { pound(b, door, byDigest, accept) })
	b.Run("by-tag", func(b *testing.B) { pound(b, door, "/v2/library/app/manifests/1", accept) })
	b.Run("by-digest-ns", func(b *testing.B) { pound(b, door, byDigest+"?ns=docker.io", accept) })
}

// pound sends b.N requests over benchConnections connections, each waiting for its answer before the next.
func pound(b *testing.B, server *httptest.Server, path, header string) {
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + server.Listener.Addr().String() + "\r\n" + header + "\r\n")
	var left atomic.Int64
	left.Store(int64(b.N))
	times := make([][]time.Duration, benchConnections)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range benchConnections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			reader := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := exchange(conn, reader, request); err != nil {
					b.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// exchange is the least that a client can do, so that the benchmark measures the server.
func exchange(conn net.Conn, reader *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !strings.HasPrefix(string(line), "HTTP/1.1 200") {
			return &net.ParseError{Type: "status", Text: string(line)}
		}
		if len(line) == 2 {
			break
		}
		if text, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
				return err
			}
		}
	}
	_, err := io.CopyN(io.Discard, reader, int64(length))
	return err
}
