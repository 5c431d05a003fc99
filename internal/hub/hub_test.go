package hub_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPullTakesAChallengeATokenAndARedirect(t *testing.T) {
	h := start(t, hub.Config{})
	image := random(t, h, "library/app", "1", 200_000, 100_000)
	c := newClient(t, h)

	r := c.want(c.do("GET", "/v2/"), 401)
	want := fmt.Sprintf(`Bearer realm="%s",service="registry.docker.io"`, h.TokenURL())
	if got := r.header.Get("WWW-Authenticate"); got != want {
		t.Errorf("GET /v2/ challenges with %s; want %s", got, want)
	}
	r = c.want(c.do("GET", "/v2/library/app/manifests/1"), 401)
	if got := r.header.Get("WWW-Authenticate"); got != want+`,scope="repository:library/app:pull"` {
		t.Errorf("GET manifest challenges with %s", got)
	}
	c.login("", "", "repository:library/app:pull")
	c.want(c.do("HEAD", "/v2/library/app/manifests/1"), 200)
	r = c.want(c.do("GET", "/v2/library/app/manifests/1"), 200)
	if !bytes.Equal(r.body, image.Raw) || r.header.Get("Docker-Content-Digest") != image.Digest.String() ||
		r.header.Get("Content-Type") != image.MediaType {
		t.Errorf("the manifest is %q, %v; want %q", r.body, r.header, image.Raw)
	}
	for _, b := range image.Blobs() {
		r = c.want(c.do("GET", "/v2/library/app/blobs/"+b.Digest.String()), 200)
		if !bytes.Equal(r.body, fileOf(t, b)) {
			t.Errorf("blob %s came with wrong bytes", b.Digest)
		}
	}
	r = c.want(c.do("HEAD", "/v2/library/app/blobs/"+image.Layers[0].Digest.String()), 200)
	if r.header.Get("Content-Length") != "200000" {
		t.Errorf("HEAD says %s bytes; want 200000", r.header.Get("Content-Length"))
	}

	s := h.Stats()
	layer := s.Blobs[image.Layers[0].Digest.String()]
	if layer != (hub.BlobStats{Gets: 1, Heads: 1, Bytes: 200_000}) {
		t.Errorf("the layer's counters are %+v; want 1 GET, 1 HEAD, 200000 bytes", layer)
	}
	if m := s.Manifests["library/app:1"]; m != (hub.ManifestStats{Gets: 1, Heads: 1}) {
		t.Errorf("the tag's counters are %+v; want 1 GET and 1 HEAD", m)
	}
	if s.Redirects != 3 || s.TokenRequests != 1 || s.Challenges != 2 {
		t.Errorf("%d redirects, %d token requests, %d challenges; want 3, 1, 2", s.Redirects, s.TokenRequests, s.Challenges)
	}
	if s.BlobBytes != 300_000+image.Config.Size {
		t.Errorf("%d blob bytes; want %d", s.BlobBytes, 300_000+image.Config.Size)
	}
	if over := s.SocketBytes - s.BlobBytes; over < 1000 || over > 20_000 || s.Sockets["cdn"] <= s.BlobBytes {
		t.Errorf("%d socket bytes (%v) for %d blob bytes; want some headers more", s.SocketBytes, s.Sockets, s.BlobBytes)
	}
	h.Reset()
	if s := h.Stats(); s.SocketBytes != 0 || len(s.Blobs) != 0 || s.Redirects != 0 {
		t.Errorf("after Reset: %+v; want zeros", s)
	}
}

func TestPrivateRepositoriesOpenToTheirUsersOnly(t *testing.T) {
	h := start(t, hub.Config{
		Users:   map[string]string{"ann": "secret", "bob": "word"},
		Private: map[string][]string{"team/app": {"ann"}},
	})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	const scope, path = "repository:team/app:pull", "/v2/team/app/manifests/1"
	for _, who := range []struct {
		user, password string
		status         int
	}{{"", "", 401}, {"bob", "word", 401}, {"ann", "secret", 200}} {
		c.login(who.user, who.password, scope)
		r := c.want(c.do("GET", path), who.status)
		if who.status == 401 && !strings.Contains(r.header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
			t.Errorf("%q is told %q; want insufficient_scope", who.user, r.header.Get("WWW-Authenticate"))
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.TokenURL()+"?scope="+scope, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ann", "wrong")
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("a wrong password gets %s; want 401", resp.Status)
	}
}

func TestTokensAndRedirectsExpire(t *testing.T) {
	h := start(t, hub.Config{TokenTTL: 50 * time.Millisecond, RedirectTTL: 50 * time.Millisecond})
	image := random(t, h, "library/app", "1", 5000)
	c := puller(t, h, "library/app")
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	path := "/v2/library/app/blobs/" + image.Layers[0].Digest.String()
	location := c.want(c.do("GET", path), 307).header.Get("Location")
	time.Sleep(60 * time.Millisecond) // the lives of both are over
	r := c.want(c.do("GET", path), 401)
	if !strings.Contains(r.header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("an expired token is told %q; want invalid_token", r.header.Get("WWW-Authenticate"))
	}
	for name, target := range map[string]string{
		"expired": location, "changed": strings.Replace(location, "repo=library", "repo=librarz", 1),
	} {
		resp, err := c.http.Get(target)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("the %s URL gets %s; want 403", name, resp.Status)
		}
	}
}

func TestManifestGetsAreLimitedAndHeadsAreFree(t *testing.T) {
	h := start(t, hub.Config{PullLimit: 2, PullWindow: time.Hour})
	random(t, h, "library/app", "1", 5000)
	c := puller(t, h, "library/app")
	const path = "/v2/library/app/manifests/1"
	for range 5 {
		r := c.want(c.do("HEAD", path), 200)
		if got := r.header.Get("Ratelimit-Remaining"); got != "2;w=3600" {
			t.Fatalf("HEAD says %q remain; want 2;w=3600", got)
		}
	}
	c.want(c.do("GET", path), 200)
	r := c.want(c.do("GET", path), 200)
	if got := r.header.Get("Ratelimit-Remaining"); got != "0;w=3600" || r.header.Get("Ratelimit-Limit") != "2;w=3600" ||
		r.header.Get("Docker-Ratelimit-Source") != "127.0.0.1" {
		t.Errorf("the second GET's headers are %v; want none remaining of 2", r.header)
	}
	r = c.want(c.do("GET", path), 429)
	if r.header.Get("Retry-After") != "3600" || !bytes.Contains(r.body, []byte("TOOMANYREQUESTS")) {
		t.Errorf("the third GET gets %v %s; want Retry-After: 3600", r.header, r.body)
	}
	c.want(c.do("HEAD", path), 200)
	h.Reset()
	c.want(c.do("GET", path), 200)
}

func TestOneListenerServesAllAndRangesWork(t *testing.T) {
	h := start(t, hub.Config{AuthListen: hub.Same, CDNListen: hub.Same})
	image := random(t, h, "library/app", "1", 50_000)
	if !strings.HasPrefix(h.TokenURL(), h.URL()) || h.CDNURL() != h.URL() {
		t.Errorf("URLs are %s, %s, %s; want one host", h.URL(), h.TokenURL(), h.CDNURL())
	}
	c := puller(t, h, "library/app")
	raw := fileOf(t, image.Layers[0])
	r := c.want(c.do("GET", "/v2/library/app/blobs/"+image.Layers[0].Digest.String(), "Range", "bytes=100-299"), 206)
	if !bytes.Equal(r.body, raw[100:300]) || r.header.Get("Content-Range") != "bytes 100-299/50000" {
		t.Errorf("the range came as %q with %d bytes", r.header.Get("Content-Range"), len(r.body))
	}
	if got := h.Stats().Blobs[image.Layers[0].Digest.String()]; got.Ranges != 1 || got.Bytes != 200 {
		t.Errorf("counters are %+v; want 1 range of 200 bytes", got)
	}
}

func TestAPlainRegistryNeedsNoTokenAndTakesPushes(t *testing.T) {
	h := start(t, hub.Config{AuthOff: true, NoRedirect: true})
	dir := t.TempDir()
	image, err := images.Random(dir, 3, 50_000, 60_000)
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := images.Artifact(dir, image, "application/vnd.test.sbom", "text/plain", []byte("what is in it"))
	if err != nil {
		t.Fatal(err)
	}
	for _, push := range []struct {
		image *images.Image
		tag   string
	}{{image, "v1"}, {artifact, ""}} {
		if err := images.Push(t.Context(), push.image, h.URL(), "org/tool", push.tag, images.Auth{}); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, h)
	if r := c.want(c.do("GET", "/v2/org/tool/manifests/v1"), 200); !bytes.Equal(r.body, image.Raw) {
		t.Errorf("the pushed manifest came back as %q", r.body)
	}
	r := c.want(c.do("GET", "/v2/org/tool/blobs/"+image.Layers[1].Digest.String()), 200)
	if !bytes.Equal(r.body, fileOf(t, image.Layers[1])) {
		t.Error("the pushed blob came back with other bytes")
	}
	r = c.want(c.do("GET", "/v2/org/tool/referrers/"+image.Digest.String()+"?artifactType=application/vnd.test.sbom"), 200)
	if !bytes.Contains(r.body, []byte(artifact.Digest)) || r.header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Errorf("the referrers are %s, %v; want %s", r.body, r.header, artifact.Digest)
	}
	c.want(c.do("GET", "/v2/org/tool/manifests/v2"), 404)
	c.want(c.do("GET", "/v2/org/other/blobs/"+image.Layers[1].Digest.String()), 404)
}

func TestPushedBlobsGoToTheFolder(t *testing.T) {
	dir := t.TempDir()
	h := start(t, hub.Config{AuthOff: true, Dir: dir + "/hub"})
	image := random(t, h, "library/other", "1", 5000)
	pushed, err := images.Random(dir, 5, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.Push(t.Context(), pushed, h.URL(), "library/app", "1", images.Auth{}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, h)
	layer := pushed.Layers[0]
	r := c.want(c.do("GET", "/v2/library/app/blobs/"+layer.Digest.String()), 200)
	if !bytes.Equal(r.body, fileOf(t, layer)) {
		t.Error("the pushed blob came back with other bytes")
	}
	session := c.want(c.do("POST", "/v2/library/app/blobs/uploads/"), 202).header.Get("Location")
	c.want(c.do("PUT", session+"?digest="+layer.Digest.String()), 400) // no bytes: another digest
	c.want(c.do("PUT", session+"?digest="+layer.Digest.String()), 404)
	c.want(c.do("POST", "/v2/library/app/blobs/uploads/"), 202) // never ended
	mount := "/v2/library/app/blobs/uploads/?from=library/other&mount=" + image.Layers[0].Digest.String()
	c.want(c.do("POST", mount), 201)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir + "/hub")
	if err != nil || len(files) != 2 {
		t.Errorf("the folder has %v (%v); want the layer and the configuration alone", files, err)
	}
}

func TestPushesNeedAUser(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "secret"}})
	image, err := images.Random(t.TempDir(), 3, 50_000)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.Push(t.Context(), image, h.URL(), "ann/app", "1", images.Auth{}); err == nil {
		t.Error("nobody could push; want an error")
	}
	err = images.Push(t.Context(), image, h.URL(), "ann/app", "1", images.Auth{User: "ann", Password: "secret"})
	if err != nil {
		t.Error(err)
	}
}

func TestTagsComeInPages(t *testing.T) {
	h := start(t, hub.Config{AuthOff: true, NoReferrersAPI: true})
	for _, tag := range []string{"c", "a", "d", "b"} {
		if _, err := h.PutManifest("org/tool", tag, "application/json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, h)
	r := c.want(c.do("GET", "/v2/org/tool/tags/list?n=3"), 200)
	if string(r.body) != `{"name":"org/tool","tags":["a","b","c"]}`+"\n" ||
		r.header.Get("Link") != `</v2/org/tool/tags/list?last=c&n=3>; rel="next"` {
		t.Errorf("the first page is %s, %s", r.body, r.header.Get("Link"))
	}
	r = c.want(c.do("GET", "/v2/org/tool/tags/list?last=c&n=3"), 200)
	if string(r.body) != `{"name":"org/tool","tags":["d"]}`+"\n" || r.header.Get("Link") != "" {
		t.Errorf("the last page is %s, %s", r.body, r.header.Get("Link"))
	}
	c.want(c.do("GET", "/v2/org/none/tags/list"), 404)
	c.want(c.do("GET", "/v2/org/tool/referrers/sha256:"+strings.Repeat("0", 64)), 404)
}

func TestTheLinkKeepsToItsRate(t *testing.T) {
	const rate, size = 20 << 20, 8 << 20
	h := start(t, hub.Config{AuthOff: true, Rate: rate})
	image := random(t, h, "library/app", "1", size/2, size/4, size/4)
	begin := time.Now()
	done := make(chan reply, 3)
	for _, l := range image.Layers {
		go func() { done <- newClient(t, h).do("GET", "/v2/library/app/blobs/"+l.Digest.String()) }()
	}
	for range image.Layers {
		if r := <-done; r.err != nil || r.status != 200 {
			t.Fatalf("pull: %d, %v", r.status, r.err)
		}
	}
	took := time.Since(begin).Seconds()
	want := float64(size) / rate
	if took < want {
		t.Errorf("%d bytes took %.3f s; want at least %.3f s at %d bytes/s", size, took, want, rate)
	}
	t.Logf("took %.3f of the ideal time", took/want)
	h.SetRate(0)
	c := newClient(t, h)
	c.want(c.do("GET", "/v2/library/app/blobs/"+image.Layers[0].Digest.String()), 200)
}

func TestTLSServesAllThree(t *testing.T) {
	config, ca, err := hub.SelfSigned("127.0.0.1", "registry-1.docker.io")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, hub.Config{TLS: config})
	image := random(t, h, "library/app", "1", 3<<20)
	c := newClient(t, h)
	transport := c.http.Transport.(*http.Transport)
	transport.TLSClientConfig, transport.ForceAttemptHTTP2 = trust(t, ca), true
	c.login("", "", "repository:library/app:pull")
	r := c.want(c.do("GET", "/v2/library/app/blobs/"+image.Layers[0].Digest.String()), 200)
	if !bytes.Equal(r.body, fileOf(t, image.Layers[0])) {
		t.Error("the blob came with wrong bytes")
	}
	if s := h.Stats(); s.SocketBytes < 3<<20 {
		t.Errorf("%d socket bytes; want more than the blob's", s.SocketBytes)
	}
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 1 << 20, Count: 1})
	r = c.do("GET", "/v2/library/app/blobs/"+image.Layers[0].Digest.String())
	if r.err == nil || len(r.body) != 1<<20 {
		t.Errorf("over HTTP/2 a cut gave %d bytes, %v; want 1 MiB and an error", len(r.body), r.err)
	}
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.HangAt, At: 2 << 20, Count: 1})
	result := make(chan reply, 1)
	go func() { result <- c.do("GET", "/v2/library/app/blobs/"+image.Layers[0].Digest.String()) }()
	waitFor(t, func() bool { return h.Stats().Faulted == 2 })
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if r := <-result; r.err == nil {
		t.Errorf("a body that hung at Close ended with %d bytes and no error", len(r.body))
	}
}

func TestConfigReportsEverythingThatIsWrong(t *testing.T) {
	_, err := hub.Start(hub.Config{Backend: "ftp://x", Rate: -1, Private: map[string][]string{"a/b": {"nobody"}}})
	for _, part := range []string{"Backend", "Rate", "nobody"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Start: %v; want it to name %s", err, part)
		}
	}
	first := start(t, hub.Config{})
	if _, err := hub.Start(hub.Config{Listen: first.Host()}); err == nil || !strings.Contains(err.Error(), first.Host()) {
		t.Errorf("Start on a port in use: %v; want an error that names it", err)
	}
	if _, err := first.AddFault(hub.Fault{Do: "nonsense"}); err == nil {
		t.Error("a fault that does nonsense was taken")
	}
}
