package hub_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// BenchmarkBlob sends a blob from a file to one client, at full speed and through a rate that is
// too high to matter.
func BenchmarkBlob(b *testing.B) {
	const size = 256 << 20
	for _, rate := range []int64{0, 100 << 30} {
		b.Run(fmt.Sprintf("256MiB/rate=%d", rate), func(b *testing.B) {
			h, err := hub.Start(hub.Config{AuthOff: true, Rate: rate})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = h.Close() }()
			image, err := images.Random(b.TempDir(), 1, size)
			if err != nil {
				b.Fatal(err)
			}
			if err := image.AddTo(h, "library/app", "1"); err != nil {
				b.Fatal(err)
			}
			client := &http.Client{Transport: &http.Transport{ReadBufferSize: 256 << 10}}
			defer client.CloseIdleConnections()
			b.SetBytes(size)
			for b.Loop() {
				resp, err := client.Get(h.URL() + "/v2/library/app/blobs/" + image.Layers[0].Digest.String())
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, make([]byte, 256<<10))
				_ = resp.Body.Close()
				if n != size || err != nil {
					b.Fatalf("read %d bytes, %v; want %d", n, err, size)
				}
			}
		})
	}
}
