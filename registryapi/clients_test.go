package registryapi_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

// dockerAccept is what dockerd 20.10 sends, one line each.
var dockerAccept = []string{
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json",
	oci.MediaTypeDockerManifest, oci.MediaTypeDockerList, oci.MediaTypeOCIIndex, oci.MediaTypeOCIManifest,
}

// client replays the requests of a real client. What it learns comes from the answers alone.
type client struct {
	t      *testing.T
	server *httptest.Server
	prefix string   // of the repository's path
	query  string   // of every request
	header []string // of every request
	accept []string // lines of manifest requests
	random bool     // in random order
}

func (c client) ask(method, path string, header ...string) answer {
	c.t.Helper()
	got := ask(c.t, c.server, method, "/v2/"+c.prefix+path+c.query, append(header, c.header...)...)
	if got.status != 200 {
		c.t.Fatalf("%s %s%s%s: %d %s", method, c.prefix, path, c.query, got.status, got.body)
	}
	return got
}

func (c client) manifest(method, ref string) answer {
	c.t.Helper()
	lines := append([]string(nil), c.accept...)
	if c.random {
		rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	}
	var header []string
	for _, line := range lines {
		header = append(header, "Accept", line)
	}
	return c.ask(method, "/manifests/"+ref, header...)
}

// pull reads the first platform's image that index is or lists, and checks every digest, as clients do.
func (c client) pull(index answer) {
	c.t.Helper()
	c.check(index, index.header.Get("Docker-Content-Digest"))
	m, err := oci.ParseManifest(index.header.Get("Content-Type"), []byte(index.body))
	if err != nil {
		c.t.Fatal(err)
	}
	if m.Index() {
		d := m.Manifests[0].Digest.String()
		platform := c.manifest("GET", d)
		c.check(platform, d)
		if m, err = oci.ParseManifest(platform.header.Get("Content-Type"), []byte(platform.body)); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, blob := range m.Blobs() {
		got := c.ask("GET", "/blobs/"+blob.Digest.String())
		c.check(got, blob.Digest.String())
		if got.length != blob.Size {
			c.t.Errorf("blob %s: Content-Length %d; want %d", blob.Digest, got.length, blob.Size)
		}
	}
}

func (c client) check(got answer, digest string) {
	c.t.Helper()
	if d := oci.FromBytes("sha256", []byte(got.body)); d.String() != digest {
		c.t.Errorf("body hashes to %s; want %s", d, digest)
	}
	if got.header.Get("Content-Encoding") != "" {
		c.t.Errorf("%s came with Content-Encoding %s; want none", digest, got.header.Get("Content-Encoding"))
	}
}

func TestDockerdPulls(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	c := client{
		t: t, server: serve(t, testConfig(), registry), prefix: "library/app", accept: dockerAccept, random: true,
		header: []string{"Connection", "close", "Accept-Encoding", "gzip"},
	}
	for range 5 {
		if got := ask(t, c.server, "GET", "/v2/"); got.status != 200 {
			t.Fatalf("GET /v2/: %d", got.status)
		}
		head := c.manifest("HEAD", "1")
		if head.header.Get("Docker-Content-Digest") == "" || head.length <= 0 || head.header.Get("Content-Type") == "" {
			t.Fatalf("HEAD gave %v, length %d; dockerd needs digest, length and type", head.header, head.length)
		}
		c.pull(c.manifest("GET", head.header.Get("Docker-Content-Digest")))
	}
}

func TestDockerdResumes(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	data := string(registry.blobs[img.layers[0].Digest])
	got := ask(t, server, "GET", "/v2/library/app/blobs/"+img.layers[0].Digest.String(), "Range", "bytes=12345-")
	if got.status != 206 || got.body != data[12345:] {
		t.Errorf("resumed at 12345: %d with %d bytes; want 206 with %d", got.status, len(got.body), len(data)-12345)
	}
}

func TestContainerdPulls(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	registry.addImage("quay.io", "team/tool", "1")
	server := serve(t, testConfig(), registry)
	accept := []string{strings.Join([]string{
		oci.MediaTypeDockerManifest, oci.MediaTypeDockerList, oci.MediaTypeOCIManifest,
		oci.MediaTypeOCIIndex, "*/*",
	}, ", ")}
	for _, c := range []client{
		{prefix: "library/app", query: "?ns=docker.io"},
		{prefix: "team/tool", query: "?ns=quay.io"},
		{prefix: "quay.io/team/tool", query: "?ns=quay.io"}, // override_path
	} {
		c.t, c.server, c.accept = t, server, accept
		c.header = []string{"Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"}
		head := c.manifest("HEAD", "1")
		c.pull(c.manifest("GET", head.header.Get("Docker-Content-Digest")))
	}
}

func TestPodmanPulls(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	registry.addImage("quay.io", "team/tool", "1")
	server := serve(t, testConfig(), registry)
	for _, prefix := range []string{"library/app", "quay.io/team/tool"} {
		c := client{t: t, server: server, prefix: prefix, accept: dockerAccept, header: []string{"Connection", "close"}}
		if got := ask(t, server, "GET", "/v2/"); got.status != 200 {
			t.Fatalf("GET /v2/: %d", got.status)
		}
		c.pull(c.manifest("GET", "1"))
	}
}

func TestRegctlPulls(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	c := client{t: t, server: server, prefix: "library/app", query: "?ns=registry-1.docker.io", accept: dockerAccept}
	index := c.manifest("GET", "1")
	if got := index.header.Get("OCI-Namespace"); got != "docker.io" {
		t.Errorf("OCI-Namespace %q; want docker.io", got)
	}
	c.pull(index)
	resumed := ask(t, server, "GET", "/v2/library/app/blobs/"+img.layers[0].Digest.String()+c.query, "Range", "bytes=10-48000")
	if resumed.status != 206 {
		t.Errorf("regctl's resume: %d; want 206", resumed.status)
	}
}

func TestCranePullsAndLists(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	c := client{
		t: t, server: server, prefix: "library/app",
		accept: []string{strings.Join([]string{oci.MediaTypeDockerManifest, oci.MediaTypeDockerList}, ",")},
	}
	c.pull(c.manifest("GET", "1"))
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(ask(t, server, "GET", "/v2/library/app/tags/list?n=1000").body), &list); err != nil || len(list.Tags) != 1 {
		t.Errorf("crane ls: %v, %v; want one tag", list.Tags, err)
	}
	wantError(t, "crane catalog", ask(t, server, "GET", "/v2/_catalog?n=1000"), 404, "UNSUPPORTED")
}
