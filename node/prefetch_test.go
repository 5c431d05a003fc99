package node

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

// manifestOf is an image manifest with so many layers of a MiB each.
func manifestOf(t *testing.T, layers int) (raw []byte, last oci.Digest) {
	t.Helper()
	m := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest}
	entry := func(i int) map[string]any {
		last = oci.FromBytes(oci.SHA256, fmt.Append(nil, i))
		return map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": last.String(), "size": 1 << 20}
	}
	m["config"] = entry(0)
	var all []any
	for i := range layers {
		all = append(all, entry(i+1))
	}
	m["layers"] = all
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw, last
}

func TestNoMoreOfAManifestIsKeptThanIsFetchedAhead(t *testing.T) {
	p := newPrefetch(&Node{})
	repo := oci.Repository{Upstream: oci.DockerHub, Path: "library/huge"}
	raw, last := manifestOf(t, 10*maxAhead)
	p.arm(repo, oci.FromBytes(oci.SHA256, raw), oci.MediaTypeOCIManifest, raw)
	armed, _ := p.armed.GetIfPresent(repo)
	if len(armed) != 1 || len(armed[0].layers) != maxAhead || cap(armed[0].layers) > 2*maxAhead {
		t.Errorf("%d manifests are armed, of which %d layers are kept; want %d", len(armed), len(armed[0].layers), maxAhead)
	}
	if got := p.due(repo, last); len(got) != 0 {
		t.Errorf("a layer that is not kept starts %d others; want none", len(got))
	}
	if got := p.due(repo, armed[0].layers[7].Digest); len(got) != maxAhead {
		t.Errorf("a layer that is kept starts %d; want %d", len(got), maxAhead)
	}
}
