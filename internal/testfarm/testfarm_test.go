package testfarm_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
)

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestAFarmFetchesABlobOnce(t *testing.T) {
	f := testfarm.Start(t, testfarm.Options{Nodes: 5, Hub: hub.Config{}})
	data := randomBytes(1, 40<<20+123)
	d, err := f.Hub.PutBlob("library/app", data)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	start := time.Now()
	for _, n := range f.Nodes {
		group.Go(func() {
			r, body, err := n.Get("library/app/blobs/" + d.String())
			if err != nil || r.StatusCode != 200 || !bytes.Equal(body, data) {
				t.Errorf("GET at %s = %v, %d bytes, %v; want 200 and the blob", n.ID(), r, len(body), err)
			}
		})
	}
	group.Wait()
	t.Logf("took %v", time.Since(start))
	stats := f.Hub.Stats()
	if stats.BlobBytes != int64(len(data)) {
		t.Errorf("upstream sent %d blob bytes; want %d", stats.BlobBytes, len(data))
	}
	t.Logf("%+v", stats)
}
