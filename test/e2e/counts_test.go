package e2e

import (
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// crossedOnce fails the test unless each blob of the images was read from the registry once, byte by byte, no other
// blob was read, and each manifest was asked for once.
func crossedOnce(t *testing.T, registry *hub.Hub, repo map[string]*images.Image) {
	t.Helper()
	stats := registry.Stats()
	want, manifests := map[string]int64{}, map[string]bool{}
	for _, image := range repo {
		for _, b := range image.Blobs() {
			want[b.Digest.String()] = b.Size
		}
		for _, m := range image.Manifests() {
			manifests[m.Digest.String()] = true
		}
	}
	for digest, size := range want {
		if got := stats.Blobs[digest].Bytes; got != size {
			t.Errorf("blob %s: %d bytes crossed the upstream link in %d requests; want %d", digest, got, stats.Blobs[digest].Gets, size)
		}
	}
	for digest, counted := range stats.Blobs {
		if want[digest] == 0 && counted.Bytes > 0 {
			t.Errorf("blob %s: %d bytes crossed the upstream link; nobody asked for it", digest, counted.Bytes)
		}
	}
	for digest, n := range manifestGets(stats, repo) {
		if n != 1 {
			t.Errorf("manifest %s was asked for %d times; want once: %v", digest, n, stats.Manifests)
		}
		delete(manifests, digest)
	}
	if len(manifests) > 0 {
		t.Errorf("manifests %v were never asked for", manifests)
	}
}

// manifestGets counts the GETs for each manifest, by its tag or by its digest, and those for others.
func manifestGets(stats hub.Stats, repo map[string]*images.Image) map[string]int64 {
	tags := map[string]string{}
	for reference, image := range repo {
		tags[reference] = image.Digest.String()
	}
	gets := map[string]int64{}
	for reference, counted := range stats.Manifests {
		digest, tagged := tags[reference]
		if !tagged {
			_, digest, _ = strings.Cut(reference, "@")
		}
		if counted.Gets > 0 {
			gets[digest] += counted.Gets
		}
	}
	return gets
}
