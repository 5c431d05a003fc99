package realregistry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/hub/realregistry"
	"github.com/pullonce/pullonce/internal/images"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, cfg realregistry.Config) *realregistry.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := realregistry.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// get asks with whatever token the registry wants.
func get(t *testing.T, target string, header ...string) (*http.Response, []byte) {
	t.Helper()
	plain := &http.Transport{}
	defer plain.CloseIdleConnections()
	client := &auth.Client{Client: &http.Client{Transport: plain, Timeout: 20 * time.Second}, Cache: auth.NewCache()}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// TestARealRegistryStandsBehindTheHubAndAsACacheBeforeIt pushes every form of image through the Hub
// into the real registry, pulls them back through the front, with a fault on the way, and then
// through a second registry that is a pull-through cache of the Hub.
func TestARealRegistryStandsBehindTheHubAndAsACacheBeforeIt(t *testing.T) {
	dir := t.TempDir()
	program, err := realregistry.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	store := run(t, realregistry.Config{Program: program, Dir: dir + "/store"})
	h, err := hub.Start(hub.Config{Backend: store.URL(), AuthListen: hub.Same, Users: map[string]string{"library": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	made := make(map[string]*images.Image)
	build := func(name string, spec images.Spec) *images.Image {
		image, err := images.Build(t.Context(), dir, spec)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = image
		return image
	}
	arm := v1.Platform{OS: "linux", Architecture: "arm64"}
	x86 := v1.Platform{OS: "linux", Architecture: "amd64"}
	one := build("schema2", images.Spec{Layers: images.RandomLayers(1, 3<<20, 50_000), Docker: true, Packing: images.Gzip, Platform: x86})
	two := build("schema2-arm", images.Spec{Layers: images.RandomLayers(2, 60_000), Docker: true, Packing: images.Gzip, Platform: arm})
	oci := build("oci-zstd", images.Spec{Layers: images.RandomLayers(3, 70_000), Packing: images.Zstd})
	if made["list"], err = images.Index(one, two); err != nil {
		t.Fatal(err)
	}
	artifact, err := images.Artifact(dir, oci, "application/vnd.test.sbom", "text/plain", []byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	made["artifact"] = artifact
	for name, image := range made {
		if err := images.Push(t.Context(), image, h.URL(), "library/app", name, images.Auth{User: "library", Password: "secret"}); err != nil {
			t.Fatal(err)
		}
	}
	cache := run(t, realregistry.Config{Program: program, Dir: dir + "/cache", ProxyURL: h.URL()})
	for _, base := range []string{h.URL(), cache.URL()} {
		for name, image := range made {
			resp, body := get(t, base+"/v2/library/app/manifests/"+name, "Accept", image.MediaType)
			if !bytes.Equal(body, image.Raw) || resp.Header.Get("Content-Type") != image.MediaType {
				t.Errorf("%s: manifest %s is %s %.200q; want %s", base, name, resp.Header.Get("Content-Type"), body, image.MediaType)
			}
			for _, b := range image.Blobs() {
				_, body := get(t, base+"/v2/library/app/blobs/"+b.Digest.String())
				if want, err := os.ReadFile(b.Path); err != nil || !bytes.Equal(body, want) {
					t.Errorf("%s: blob %s of %s came with %d wrong bytes (%v)", base, b.Digest, name, len(body), err)
				}
			}
		}
	}
	_, body := get(t, h.URL()+"/v2/library/app/referrers/"+oci.Digest.String())
	if !strings.Contains(string(body), artifact.Digest.String()) {
		t.Errorf("the referrers are %s; want %s", body, artifact.Digest)
	}
	layer := one.Layers[0]
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.FlipAt, At: 2_000_000})
	resp, body := get(t, h.URL()+"/v2/library/app/blobs/"+layer.Digest.String(), "Range", "bytes=1999999-2000000")
	want, err := os.ReadFile(layer.Path)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusPartialContent || len(body) != 2 || body[0] != want[1_999_999] || body[1] != want[2_000_000]^0xff {
		t.Errorf("a range over a flipped byte is %s %x; want %x and its opposite", resp.Status, body, want[1_999_999:2_000_001])
	}
	if s := h.Stats(); s.Blobs[layer.Digest.String()].Bytes < layer.Size*2 || s.Redirects == 0 {
		t.Errorf("counters are %+v; want the layer at least twice, by redirects", s.Blobs[layer.Digest.String()])
	}
}

func TestAProgramThatDoesNotListenIsAnError(t *testing.T) {
	if _, err := realregistry.Start(t.Context(), realregistry.Config{Program: "/bin/true", Dir: t.TempDir()}); err == nil {
		t.Error("Start returned no error")
	}
}
