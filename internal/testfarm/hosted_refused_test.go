package testfarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// TestHostedPushesThatAreRefused is of one farm, since nothing that is refused leaves a trace.
func TestHostedPushesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 2, Change: func(_ int, c *node.Config) {
		c.Store.MaxUpload = 8 * mib
	}})
	image(t, f, 3000, "library/shadowed", "1", 3000)
	t.Run("outside of the prefix", func(t *testing.T) { outsideOfThePrefix(t, f) })
	t.Run("manifest bombs", func(t *testing.T) { manifestBombs(t, f) })
	t.Run("too large", func(t *testing.T) { tooLarge(t, f) })
	t.Run("sha512", func(t *testing.T) { hostedSHA512(t, f) })
	t.Run("by the farm's own name", func(t *testing.T) { byTheFarmsOwnName(t, f) })
}

func outsideOfThePrefix(t *testing.T, f *testfarm.Farm) {
	raw := []byte(`{"schemaVersion":2}`)
	d := sum256(raw)
	for i, name := range []string{"library/shadowed", "shadowed", "docker.io/library/shadowed", "quay.io/team/app", "farm.internals/x"} {
		h := hosted{t, f.Nodes[i%2], name}
		for _, q := range [][2]string{
			{http.MethodPost, "/blobs/uploads/"},
			{http.MethodPost, "/blobs/uploads/?digest=" + d.String()},
			{http.MethodPost, "/blobs/uploads/?mount=" + d.String() + "&from=farm.internal/x"},
			{http.MethodPut, "/manifests/1"},
			{http.MethodDelete, "/manifests/1"},
			{http.MethodDelete, "/manifests/" + d.String()},
			{http.MethodDelete, "/blobs/" + d.String()},
		} {
			r := h.refused(http.StatusForbidden, "DENIED", q[0], q[1], bytes.NewReader(raw), "Content-Type", oci.MediaTypeOCIManifest)
			if !strings.Contains(string(r.Body), "farm.internal/") {
				t.Errorf("%s %s of %s: %s; want the prefix named", q[0], q[1], name, r.Body)
			}
		}
	}
	h := hosted{t, f.Nodes[0], "farm.internal"} // the prefix alone names no repository
	if r := h.do(http.MethodPost, "/blobs/uploads/", nil); r.Status < 400 || r.Status >= 500 {
		t.Errorf("push to the prefix alone = %d %s; want it refused", r.Status, r.Body)
	}
	for _, n := range f.Nodes { // nothing of an upstream's image is shadowed
		if err := pullImage(t.Context(), n, "library/shadowed", "1"); err != nil {
			t.Error(err)
		}
	}
}

func manifestBombs(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[0], "bombs/app")
	h.small(3100, "fine")
	descriptor := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, octets, sum256([]byte("x")))
	config := fmt.Sprintf(`"schemaVersion":2,"mediaType":%q,"config":%s`, oci.MediaTypeOCIManifest, descriptor)
	for name, raw := range map[string]string{
		"descriptors": fmt.Sprintf(`{%s,"layers":[%s]}`, config, strings.Repeat(descriptor+",", 20_000)+descriptor),
		"empty ones":  fmt.Sprintf(`{%s,"layers":[%s{}]}`, config, strings.Repeat("{},", 1_000_000)),
		"depth":       fmt.Sprintf(`{%s,"layers":[],"x":%s%s}`, config, strings.Repeat("[", 100_000), strings.Repeat("]", 100_000)),
		"annotations": fmt.Sprintf(`{%s,"layers":[],"annotations":{%s"z":"z"}}`, config, strings.Repeat(`"a":[],`, 300_000)),
	} {
		for _, ref := range []string{"bomb", sum256([]byte(raw)).String()} {
			r := h.node.Send(t.Context(), http.MethodPut, h.name+"/manifests/"+ref, strings.NewReader(raw), "Content-Type", oci.MediaTypeOCIManifest)
			if r.Err == nil && r.Status != http.StatusBadRequest && r.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("PUT of a manifest with too many %s = %d %s; want 400 or 413", name, r.Status, r.Body)
			}
			for _, n := range f.Nodes {
				h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/"+ref, nil, acceptAll...)
			}
		}
	}
	for _, n := range f.Nodes {
		if err := h.at(n).pull("fine"); err != nil {
			t.Error(err)
		}
	}
}

func tooLarge(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[1], "large/app")
	h.small(3200, "fine")
	// The answer may be lost with the connection: the rest of the body is not read.
	r := h.node.Send(t.Context(), http.MethodPut, h.name+"/manifests/large", bytes.NewReader(make([]byte, oci.MaxManifestBytes+1)), "Content-Type", oci.MediaTypeOCIManifest)
	if r.Err == nil && r.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("PUT of a manifest beyond the limit = %d %s; want 413", r.Status, r.Body)
	}
	data := randomBytes(3201, 8*mib+1)
	d := sum256(data)
	r = h.node.Send(t.Context(), http.MethodPost, h.name+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(data))
	if r.Err == nil && r.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("POST of a blob beyond the limit = %d %s; want 413", r.Status, r.Body)
	}
	for _, n := range f.Nodes {
		h.at(n).want(http.StatusNotFound, http.MethodGet, "/manifests/large", nil, acceptAll...)
		h.at(n).want(http.StatusNotFound, http.MethodHead, "/blobs/"+d.String(), nil)
	}
}

// hostedSHA512 pushes and pulls blobs and a manifest that are named by SHA-512.
func hostedSHA512(t *testing.T, f *testfarm.Farm) {
	h := hostedAt(t, f.Nodes[0], "sha512/app")
	var layers []oci.Descriptor
	for i, size := range []int{100, 3*mib + 1} {
		data := randomBytes(3300+uint64(i), size)
		d := oci.FromBytes(oci.SHA512, data)
		location := h.want(http.StatusAccepted, http.MethodPost, "/blobs/uploads/?digest-algorithm=sha512", nil).Header.Get("Location")
		h.want(http.StatusCreated, http.MethodPut, digested(location, d), bytes.NewReader(data))
		layers = append(layers, oci.Descriptor{MediaType: octets, Digest: d, Size: int64(size)})
		r := h.at(f.Nodes[1]).want(http.StatusOK, http.MethodGet, "/blobs/"+d.String(), nil)
		if "sha256:"+r.Sum != sum256(data).String() {
			t.Errorf("GET of %s: %d other bytes", d, r.Size)
		}
	}
	m := manifestOf(t, oci.MediaTypeOCIManifest, map[string]any{"config": layers[0], "layers": layers[1:]})
	named := oci.FromBytes(oci.SHA512, m.raw)
	r := h.want(http.StatusCreated, http.MethodPut, "/manifests/"+named.String()+"?tag=1", bytes.NewReader(m.raw), "Content-Type", m.mediaType)
	if r.Header.Get("Docker-Content-Digest") != named.String() {
		t.Errorf("PUT: %v; want the digest %s", r.Header, named)
	}
	for _, n := range f.Nodes {
		for _, ref := range []string{named.String(), "1"} {
			r := h.at(n).want(http.StatusOK, http.MethodGet, "/manifests/"+ref, nil, acceptAll...)
			if !bytes.Equal(r.Body, m.raw) || r.Header.Get("Docker-Content-Digest") != named.String() {
				t.Errorf("GET of %s: %v %s; want what was pushed, by its digest", ref, r.Header, r.Body)
			}
		}
	}
}

// byTheFarmsOwnName pushes as containerd does that takes the node for a mirror of farm.internal.
func byTheFarmsOwnName(t *testing.T, f *testfarm.Farm) {
	data := randomBytes(3400, 5000)
	d := sum256(data)
	n := f.Nodes[0]
	r := n.Send(t.Context(), http.MethodPost, "own/app/blobs/uploads/?ns=farm.internal", nil)
	location := r.Header.Get("Location")
	if r.Status != http.StatusAccepted || !strings.HasPrefix(location, "/v2/own/app/blobs/uploads/") {
		t.Fatalf("POST with ns = %d %s, Location %s; want 202 by the name that the client uses", r.Status, r.Body, location)
	}
	if r = n.Send(t.Context(), http.MethodPut, digested(location, d), bytes.NewReader(data)); r.Status != http.StatusCreated {
		t.Fatalf("PUT with ns = %d %s; want 201", r.Status, r.Body)
	}
	if err := f.Nodes[1].Pull(t.Context(), "farm.internal/own/app", d); err != nil {
		t.Error(err)
	}
	r = f.Nodes[1].Ask(t.Context(), http.MethodGet, "own/app/blobs/"+d.String()+"?ns=farm.internal")
	if r.Status != http.StatusOK || "sha256:"+r.Sum != d.String() {
		t.Errorf("GET with ns = %d, %d bytes; want the blob", r.Status, r.Size)
	}
}
