package hub_test

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// What a test needs: a Hub, an image in it, a fault, the counters. URL, TokenURL and CDNURL say
// where the Hub listens.
func Example() {
	dir, _ := os.MkdirTemp("", "hub")
	defer func() { _ = os.RemoveAll(dir) }()
	h, err := hub.Start(hub.Config{AuthOff: true})
	if err != nil {
		panic(err)
	}
	defer func() { _ = h.Close() }()
	image, _ := images.Random(dir, 1, 1<<20, 5<<20)
	_ = image.AddTo(h, "library/app", "1")
	layer := image.Layers[1].Digest.String()
	h.MustFault(hub.Fault{Kind: hub.Blob, Ref: layer, Do: hub.CutAt, At: 1000, Count: 1})

	for range 2 {
		resp, err := http.Get(h.URL() + "/v2/library/app/blobs/" + layer)
		if err != nil {
			panic(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		fmt.Println(n, err)
	}
	fmt.Println(h.Stats().Blobs[layer].Gets, "requests")
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 1000 unexpected EOF
	// 5242880 <nil>
	// 2 requests
}
