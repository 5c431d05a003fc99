package trust

import (
	"io"
	"net"
	"testing"
)

// BenchmarkHandshake is what a connection between members costs both ends together.
func BenchmarkHandshake(b *testing.B) {
	first := founder(b, Config{Node: "one"})
	second := member(b, first, Config{Node: "two"})
	b.ReportAllocs()
	for b.Loop() {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, _, _, err := first.Server(b.Context(), far)
			done <- err
		}()
		_, _, err := second.Client(b.Context(), near, "", "h2")
		if serverErr := <-done; err != nil || serverErr != nil {
			b.Fatal(err, serverErr)
		}
		b.StopTimer()
		first.open.closeWhere(func(*liveConn) bool { return true })
		second.open.closeWhere(func(*liveConn) bool { return true })
		b.StartTimer()
	}
}

// BenchmarkRefusal is what an outsider costs who does not speak TLS.
func BenchmarkRefusal(b *testing.B) {
	first := founder(b, Config{Node: "one"})
	b.ReportAllocs()
	for b.Loop() {
		near, far := net.Pipe()
		go func() { _, _ = io.WriteString(near, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") }()
		if _, _, _, err := first.Server(b.Context(), far); err == nil {
			b.Fatal("let in")
		}
	}
}
