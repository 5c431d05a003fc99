package upstream_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

// BenchmarkBlob reads one blob from a server that costs next to nothing itself: it writes one buffer of zeros again and
// again. cpu-s/GiB is of both, the server's share being about the same in every row.
func BenchmarkBlob(b *testing.B) {
	const size = 1 << 30
	for _, read := range []int{32 << 10, 256 << 10, 1 << 20} {
		for _, buffer := range []int{4 << 10, 16 << 10, 64 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("read=%dKiB/buffer=%dKiB", read>>10, buffer>>10), func(b *testing.B) {
				cfg := upstream.Default()
				cfg.URL, cfg.ReadBuffer = "http://"+zeros(b, nil, size), buffer
				benchmarkBlob(b, cfg, size, read)
			})
		}
	}
}

// BenchmarkBlobTLS is the same with TLS, which hands out its records of 16 KiB one by one.
func BenchmarkBlobTLS(b *testing.B) {
	const size = 1 << 30
	config, ca, err := hub.SelfSigned("127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	cfg := upstream.Default()
	cfg.URL, cfg.CAFile = "https://"+zeros(b, config, size), filepath.Join(b.TempDir(), "ca.pem")
	if err := os.WriteFile(cfg.CAFile, ca, 0o600); err != nil {
		b.Fatal(err)
	}
	benchmarkBlob(b, cfg, size, 1<<20)
}

func benchmarkBlob(b *testing.B, cfg upstream.Config, size int64, read int) {
	c, err := upstream.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	d := oci.FromBytes(oci.SHA256, nil)
	buf := make([]byte, read)
	b.SetBytes(size)
	b.ReportAllocs()
	before := cpu(b)
	reads := 0
	for b.Loop() {
		body, err := c.Blob(b.Context(), "library/zeros", d, 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		var n int64
		for err == nil {
			var k int
			k, err = body.Read(buf)
			n += int64(k)
			reads++
		}
		if err != io.EOF || n != size {
			b.Fatalf("read %d bytes, %v; want %d", n, err, size)
		}
		_ = body.Close()
	}
	gib := float64(b.N) * float64(size) / (1 << 30)
	b.ReportMetric((cpu(b)-before).Seconds()/gib, "cpu-s/GiB")
	b.ReportMetric(float64(reads)/gib, "reads/GiB")
}

// zeros answers every request with size zero bytes, over TLS if there is a config for it.
func zeros(tb testing.TB, config *tls.Config, size int64) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	tb.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveZeros(conn, size)
		}
	}()
	return l.Addr().String()
}

func serveZeros(conn net.Conn, size int64) {
	defer conn.Close()
	request, block := make([]byte, 4096), make([]byte, 1<<20)
	for {
		if _, err := conn.Read(request); err != nil {
			return
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size); err != nil {
			return
		}
		for left := size; left > 0; {
			n, err := conn.Write(block[:min(left, int64(len(block)))])
			if err != nil {
				return
			}
			left -= int64(n)
		}
	}
}

func cpu(tb testing.TB) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
