package registryapi_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// BenchmarkPush measures one blob pushed over loopback into a store on the disk of the temporary directory, as clients
// push: PATCH of the whole, then PUT. Client and server share this process, and CPU time is that of both.
func BenchmarkPush(b *testing.B) {
	const size = 1 << 30
	block := make([]byte, 8<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(block)
	for _, chunked := range []bool{false, true} {
		name := "1GiB/length"
		if chunked {
			name = "1GiB/chunked"
		}
		b.Run(name, func(b *testing.B) { benchPush(b, block, size, chunked) })
	}
}

// varied repeats a block with a mark in each, so that no two pushes are of one blob.
type varied struct {
	block []byte
	left  int
	at    int
}

func (v *varied) Read(p []byte) (int, error) {
	if v.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), v.left)], v.block[v.at:])
	v.at, v.left = (v.at+n)%len(v.block), v.left-n
	return n, nil
}

func benchPush(b *testing.B, block []byte, size int, chunked bool) {
	f := newFarm(b, nil)
	server := serveFarm(b, hostedConfig(), f)
	block = bytes.Clone(block)
	b.SetBytes(int64(size))
	var spent, hashing time.Duration
	for b.Loop() {
		b.StopTimer()
		block[0]++
		h := oci.FromBytes(oci.SHA256, nil).New()
		begin := cpuTime()
		_, _ = io.Copy(h, &varied{block: block, left: size})
		hashing += cpuTime() - begin
		d := oci.FromHash(oci.SHA256, h)
		b.StartTimer()
		begin = cpuTime()
		location := pushRequest(b, server.Client(), "POST", server.URL+"/v2/farm.internal/a/blobs/uploads/", nil, 0, 202)
		length := int64(size)
		if chunked {
			length = -1
		}
		location = pushRequest(b, server.Client(), "PATCH", server.URL+location, &varied{block: block, left: size}, length, 202)
		pushRequest(b, server.Client(), "PUT", with(server.URL+location, d), nil, 0, 201)
		spent += cpuTime() - begin
		b.StopTimer()
		if err := f.store.Delete(d); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	gib := float64(b.N) * float64(size) / (1 << 30)
	b.ReportMetric(spent.Seconds()/gib, "CPU-s/GiB")
	b.ReportMetric(hashing.Seconds()/gib, "hash-CPU-s/GiB")
}

func pushRequest(b *testing.B, client *http.Client, method, url string, body io.Reader, length int64, want int) (location string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, url, body)
	if err != nil {
		b.Fatal(err)
	}
	req.ContentLength = length
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != want {
		b.Fatalf("%s: %s; want %d", method, resp.Status, want)
	}
	return resp.Header.Get("Location")
}

// cpuTime is what this process has used, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
