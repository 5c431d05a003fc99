package registryapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// traced is set in the process that the system call trace watches.
const traced = "PULLONCE_TRACED_BLOB"

// withFile is a door to one blob in a file; the path leads to it.
func withFile(t testing.TB, cfg registryapi.Config, data []byte) (*httptest.Server, string) {
	t.Helper()
	registry := newMemory()
	d := registry.addBlob(oci.Repository{Upstream: "docker.io", Path: "library/app"}, data).Digest
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	registry.open = func([]byte) registryapi.Blob {
		return &fileBlob{file: openFile(t, path), size: int64(len(data))}
	}
	return serve(t, cfg, registry), "/v2/library/app/blobs/" + d.String()
}

func randomBytes(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // never fails
	return data
}

func TestFilesGoOutBySendfile(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is needed and not installed")
		}
		t.Skip("strace is not installed")
	}
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-e", "trace=sendfile", "-o", out,
		os.Args[0], "-test.run", "^TestTracedPull$", "-test.v")
	cmd.Env = append(os.Environ(), traced+"=1")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, output)
	}
	trace, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, match := range regexp.MustCompile(`sendfile.* = (\d+)\n`).FindAllSubmatch(trace, -1) {
		n, err := strconv.Atoi(string(match[1]))
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	if want := tracedSize + tracedSize - 1000 + 2<<20; sent != want {
		t.Errorf("sendfile sent %d bytes; want every one of %d", sent, want)
	}
}

const tracedSize = 20 << 20

// TestTracedPull is what TestFilesGoOutBySendfile traces: a whole blob and two ranges of it.
func TestTracedPull(t *testing.T) {
	if os.Getenv(traced) == "" {
		t.Skip("runs under the trace only")
	}
	data := randomBytes(tracedSize)
	server, path := withFile(t, testConfig(), data)
	if got := ask(t, server, "GET", path); got.status != 200 || got.body != string(data) {
		t.Errorf("blob: %d, %d bytes; want 200 and %d right ones", got.status, len(got.body), len(data))
	}
	if got := ask(t, server, "GET", path, "Range", "bytes=1048576-3145727"); got.status != 206 || got.body != string(data[1<<20:3<<20]) {
		t.Errorf("middle: %d, %d bytes; want 206 and 2 MiB of right ones", got.status, len(got.body))
	}
	if got := ask(t, server, "GET", path, "Range", "bytes=1000-"); got.status != 206 || got.body != string(data[1000:]) {
		t.Errorf("range: %d, %d bytes; want 206 and %d right ones", got.status, len(got.body), len(data)-1000)
	}
}

// pullSlowly reads an answer over a connection with a small receive buffer.
func pullSlowly(t *testing.T, server *httptest.Server, path string, read func(body io.Reader) ([]byte, error)) ([]byte, error) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return read(resp.Body)
}

func TestASlowClientThatGetsOnReceivesAll(t *testing.T) {
	cfg := testConfig()
	cfg.ClientTimeout = 150 * time.Millisecond
	data := randomBytes(12 << 20)
	server, path := withFile(t, cfg, data)
	got, err := pullSlowly(t, server, path, func(body io.Reader) ([]byte, error) {
		var all bytes.Buffer
		for {
			time.Sleep(20 * time.Millisecond) // the client's slowness, not a wait for anything
			if _, err := io.CopyN(&all, body, 256<<10); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return all.Bytes(), err
			}
		}
	})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("slow client received %d bytes of %d, equal %t, %v; want all", len(got), len(data), bytes.Equal(got, data), err)
	}
}

func TestAClientThatStallsOnAFileIsLetGo(t *testing.T) {
	cfg := testConfig()
	cfg.ClientTimeout = 100 * time.Millisecond
	data := randomBytes(64 << 20)
	server, path := withFile(t, cfg, data)
	got, err := pullSlowly(t, server, path, func(body io.Reader) ([]byte, error) {
		time.Sleep(time.Second) // the client's stall
		return io.ReadAll(body)
	})
	if err == nil || len(got) == len(data) || !bytes.HasPrefix(data, got) {
		t.Errorf("stalled client received %d bytes of %d, %v; want a right part and an error", len(got), len(data), err)
	}
}

// BenchmarkBlob64MiB compares a whole blob from a file, one after the other, with a plain server of the same file.
func BenchmarkBlob64MiB(b *testing.B) {
	data := randomBytes(64 << 20)
	server, path := withFile(b, testConfig(), data)
	file := filepath.Join(b.TempDir(), "plain")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := openFile(b, file)
		defer func() { _ = f.Close() }()
		http.ServeContent(w, r, "", time.Time{}, f)
	}))
	b.Cleanup(plain.Close)
	times := map[string][]time.Duration{}
	b.SetBytes(2 * int64(len(data)))
	for b.Loop() {
		for _, url := range []string{server.URL + path, plain.URL} {
			times[url] = append(times[url], drain(b, url, len(data)))
		}
	}
	median := func(url string) float64 { return slices.Sorted(slices.Values(times[url]))[len(times[url])/2].Seconds() }
	b.ReportMetric(float64(len(data))/median(server.URL+path)/1e6, "door-MB/s")
	b.ReportMetric(float64(len(data))/median(plain.URL)/1e6, "plain-MB/s")
	b.ReportMetric(median(plain.URL)/median(server.URL+path), "door/plain")
}

// drain pulls n bytes from url and says how long it took.
func drain(b *testing.B, url string, n int) time.Duration {
	start := time.Now()
	resp, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 1<<20))
	if err != nil || got != int64(n) {
		b.Fatalf("received %d bytes of %d, %v", got, n, err)
	}
	return time.Since(start)
}
