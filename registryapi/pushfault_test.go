package registryapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

func TestWithoutAQuorumPushesSayWhenToComeBack(t *testing.T) {
	p, f := newPusher(t)
	config := p.blob([]byte("{}"))
	p.manifest(201, "x", oci.MediaTypeOCIManifest, imageOf(oci.MediaTypeOCIManifest, config))
	f.addImage("docker.io", "library/app", "1")
	location := p.want(202, "PATCH", p.start(), strings.NewReader("data")).header.Get("Location")
	f.noQuorum.Store(true)
	raw := `{"schemaVersion":2,"manifests":[]}`
	d := oci.FromBytes(oci.SHA256, []byte("data"))
	for what, got := range map[string]answer{
		"PUT of a manifest": p.do("PUT", "/manifests/y", strings.NewReader(raw), "Content-Type", oci.MediaTypeOCIIndex),
		"DELETE of a tag":   p.do("DELETE", "/manifests/x", nil),
		"GET by tag":        p.do("GET", "/manifests/x", nil),
		"tags":              p.do("GET", "/tags/list", nil),
		"PUT of a blob":     p.do("PUT", with(location, d), nil),
	} {
		wantError(t, what, got, 503, "UNAVAILABLE")
		if got.header.Get("Retry-After") != "5" || !strings.Contains(got.body, "quorum") {
			t.Errorf("%s: %v %s; want Retry-After and the reason", what, got.header, got.body)
		}
	}
	p.want(200, "GET", "/v2/library/app/manifests/1", nil)
	f.noQuorum.Store(false)
	p.manifest(201, "y", oci.MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "manifests": []string{}})
	// The bytes of the blob are here already: to send it again must do.
	p.blob([]byte("data"))
}

func TestAnUploadGoesOnAfterTheDiskWasFull(t *testing.T) {
	f := newFarm(t, func(c *blobstore.Config) { c.MaxHosted = 5 << 20 })
	p := pusher{t: t, server: serveFarm(t, hostedConfig(), f), repo: hostedPrefix + "/team/app"}
	old := p.blob(someBytes(4 << 20))
	data := someBytes(3 << 20)
	d := oci.FromBytes(oci.SHA256, data)
	location := p.want(202, "PATCH", p.start(), bytes.NewReader(data[:512<<10])).header.Get("Location")
	wantError(t, "PATCH on a full disk", p.do("PATCH", location, bytes.NewReader(data[512<<10:])), 507, "UNAVAILABLE")
	if err := f.store.Delete(old.Digest); err != nil {
		t.Fatal(err)
	}
	var last int
	_, _ = fmt.Sscanf(p.want(204, "GET", location, nil).header.Get("Range"), "0-%d", &last)
	if last < 512<<10-1 {
		t.Fatalf("%d bytes are left; want at least what was acknowledged", last+1)
	}
	p.created(p.want(201, "PUT", with(location, d), bytes.NewReader(data[last+1:])), d, data)

	big := newFarm(t, func(c *blobstore.Config) { c.MaxUpload, c.MaxUploads = 1000, 1 })
	q := pusher{t: t, server: serveFarm(t, hostedConfig(), big), repo: hostedPrefix + "/x"}
	begun := q.start()
	wantError(t, "PATCH beyond the limit", q.do("PATCH", begun, bytes.NewReader(make([]byte, 1001))), 413, "SIZE_INVALID")
	got := q.do("POST", "/blobs/uploads/", nil)
	wantError(t, "more uploads than may be", got, 503, "UNAVAILABLE")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestAnUploadSurvivesARestartOfTheNode(t *testing.T) {
	dir := t.TempDir()
	data := someBytes(3 << 20)
	d := oci.FromBytes(oci.SHA256, data)
	open := func() (*farm, *httptest.Server) {
		store, err := blobstore.Open(blobstore.Default(dir), quiet())
		if err != nil {
			t.Fatal(err)
		}
		f := &farm{memory: newMemory(), store: store, repos: map[oci.Repository]*hostedRepo{}}
		return f, serveFarm(t, hostedConfig(), f)
	}
	f, server := open()
	p := pusher{t: t, server: server, repo: hostedPrefix + "/app"}
	location := p.want(202, "PATCH", p.start(), bytes.NewReader(data[:2<<20])).header.Get("Location")
	server.Close()
	_ = f.store.Close()
	f, p.server = open()
	defer func() { _ = f.store.Close() }()
	if got := p.want(204, "GET", location, nil).header.Get("Range"); got != fmt.Sprintf("0-%d", 2<<20-1) {
		t.Errorf("Range after a restart: %s; want all that was acknowledged", got)
	}
	p.created(p.want(201, "PUT", with(location, d), bytes.NewReader(data[2<<20:])), d, data)
}

// rawRequest sends the header of a request with a body.
func rawRequest(t *testing.T, conn net.Conn, method, path string, length int) {
	t.Helper()
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", method, path, length)
	if err != nil {
		t.Fatal(err)
	}
}

func TestAClientThatComesBackTakesItsUploadOver(t *testing.T) {
	p, _ := newPusher(t)
	data := someBytes(1000)
	d := oci.FromBytes(oci.SHA256, data)
	for _, end := range []string{"cut", "silent"} {
		location := p.start()
		conn, err := net.Dial("tcp", p.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		u, _ := url.Parse(location)
		rawRequest(t, conn, "PATCH", u.RequestURI(), len(data))
		if _, err := conn.Write(data[:600]); err != nil {
			t.Fatal(err)
		}
		if end == "cut" {
			_ = conn.Close()
		}
		// A first request that still gets on is left alone by those that only ask.
		var at string
		for deadline := time.Now().Add(20 * time.Second); at != "0-599" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if a := p.do("GET", location, nil); a.status == http.StatusNoContent { // else the first one is about to end
				at = a.header.Get("Range")
			} else if a.status != http.StatusServiceUnavailable {
				t.Fatalf("%s: GET = %d; want 204, or 503 for a moment", end, a.status)
			}
		}
		if at != "0-599" {
			t.Fatalf("%s: Range %s; want all that was sent", end, at)
		}
		p.want(202, "PATCH", location, bytes.NewReader(data[600:]), "Content-Range", "600-999")
		p.created(p.want(201, "PUT", with(location, d), nil), d, data)
	}
}

func TestOneRequestAtATimeGoesOnWithAnUpload(t *testing.T) {
	for range 20 {
		if takesOver(t) {
			return
		}
	}
	t.Error("in 20 uploads the request that came later never went on")
}

// takesOver has a second request go on with an upload. It is false when the first one arrived after it, and went on.
func takesOver(t *testing.T) bool {
	p, _ := newPusher(t)
	location := p.start()
	reader, writer := io.Pipe()
	first := make(chan answer, 1)
	go func() { first <- p.do("PATCH", location, reader) }()
	if _, err := writer.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	got := answer{status: 416}
	for got.status == 416 { // the part is refused as long as the first request has brought none
		got = p.do("PATCH", location, strings.NewReader("x"), "Content-Range", "100-100")
		if got.status == 416 && got.header.Get("Range") == "0-0" {
			got = p.do("PATCH", location, bytes.NewReader(make([]byte, 101)))
		}
	}
	if got.status != 409 && (got.status != 202 || got.header.Get("Range") != "0-100") {
		t.Errorf("second PATCH: %d %v; want 202, Range 0-100", got.status, got.header)
	}
	_ = writer.Close()
	if got := <-first; got.status != 409 && got.status != 202 {
		t.Errorf("first PATCH: %d %s; want 409, or 202 when it came last", got.status, got.body)
	}
	return got.status == 202
}

func TestABodyThatNobodyReadsIsNotWaitedFor(t *testing.T) {
	for _, request := range []string{"POST /v2/farm.internal/a/blobs/uploads/", "DELETE /v2/farm.internal/a/manifests/x", "PUT /v2/library/app/manifests/x"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			server := registryapi.NewServer(hostedConfig(), newHostedDoor(t, hostedConfig(), newFarm(t, nil)), quiet())
			done := make(chan error)
			go func() { done <- server.Serve(p) }()
			conn := p.dial()
			begin := time.Now()
			method, path, _ := strings.Cut(request, " ")
			rawRequest(t, conn, method, path, 1000)
			_, _ = io.ReadAll(conn)
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s: the connection was held for %v; want less", request, took)
			}
			_ = server.Close()
			<-done
		})
	}
}

func TestAPrefixThatNamesDoNotHaveIsRefused(t *testing.T) {
	f := newFarm(t, nil)
	if _, err := registryapi.NewHosting(testConfig(), f, farmLists{f}, quiet(), nil); err == nil {
		t.Error("NewHosting with names that have no hosted prefix = nil; want an error")
	}
}

// farmInBubble runs a hosting door on pipes in a synctest bubble.
func farmInBubble(t *testing.T, test func(t *testing.T, c *bubbleClient, f *farm)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, nil)
		p := newPipes()
		server := registryapi.NewServer(hostedConfig(), newHostedDoor(t, hostedConfig(), f), quiet())
		done := make(chan error)
		go func() { done <- server.Serve(p) }()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return p.dial(), nil }}
		test(t, &bubbleClient{t, &http.Client{Transport: transport}}, f)
		time.Sleep(time.Hour) // bodies that nobody reads any more have their end
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

type bubbleClient struct {
	t *testing.T
	*http.Client
}

func (c *bubbleClient) do(method, path string, body io.Reader) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://localhost"+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(raw)}
}

// trickle gives n bytes every pause, for so many times, and then ends with EOF.
type trickle struct {
	pause time.Duration
	n     int
	times int
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.times == 0 {
		return 0, io.EOF
	}
	r.times--
	time.Sleep(r.pause)
	return min(r.n, len(p)), nil
}

func TestAClientThatIsSlowButNotTooSlowIsWaitedFor(t *testing.T) {
	farmInBubble(t, func(t *testing.T, c *bubbleClient, f *farm) {
		location := c.do("POST", "/v2/farm.internal/a/blobs/uploads/", nil).header.Get("Location")
		begin := time.Now()
		got := c.do("PATCH", location, &trickle{pause: time.Second, n: 20 << 10, times: 1200}) // 1.17 MiB a minute
		if got.status != 202 || got.header.Get("Range") != fmt.Sprintf("0-%d", 1200*20<<10-1) || time.Since(begin) < 20*time.Minute {
			t.Errorf("slow PATCH after %v: %d %v %s; want 202 with all", time.Since(begin), got.status, got.header, got.body)
		}
	})
}

func TestAClientThatIsTooSlowIsCutOffAndMayComeBack(t *testing.T) {
	for name, slow := range map[string]trickle{
		"trickles": {pause: 10 * time.Second, n: 1000, times: 1000},
		"silent":   {pause: 5 * time.Minute, n: 1000, times: 2},
	} {
		t.Run(name, func(t *testing.T) {
			farmInBubble(t, func(t *testing.T, c *bubbleClient, f *farm) {
				location := c.do("POST", "/v2/farm.internal/a/blobs/uploads/", nil).header.Get("Location")
				begin := time.Now()
				wantError(t, name, c.do("PATCH", location, &slow), 408, "BLOB_UPLOAD_INVALID")
				if took := time.Since(begin); took > 5*time.Minute {
					t.Errorf("cut off after %v; want minutes", took)
				}
				time.Sleep(time.Minute)
				if got := c.do("GET", location, nil); got.status != 204 {
					t.Errorf("GET of the upload: %d; want it kept", got.status)
				}
				wantError(t, "manifest", c.do("PUT", "/v2/farm.internal/a/manifests/x", &trickle{pause: 5 * time.Minute, n: 1, times: 2}), 408, "BLOB_UPLOAD_INVALID")
			})
		})
	}
}

// slowCommit takes its time with Commit, as many copies on slow disks may.
type slowCommit struct {
	farmLists
	takes time.Duration
}

type slowUpload struct {
	registryapi.Upload
	takes time.Duration
}

func (s slowCommit) Upload(ctx context.Context, repo oci.Repository, id string) (registryapi.Upload, error) {
	u, err := s.farmLists.Upload(ctx, repo, id)
	return slowUpload{u, s.takes}, err
}

func (u slowUpload) Commit(ctx context.Context, d oci.Digest) error {
	select {
	case <-time.After(u.takes):
		return u.Upload.Commit(ctx, d)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestACommitMayTakeMinutesButNotForEver(t *testing.T) {
	for takes, want := range map[time.Duration]int{40 * time.Minute: 201, 2 * time.Hour: 503} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t, nil)
			door, err := registryapi.NewHosting(hostedConfig(), f, slowCommit{farmLists{f}, takes}, quiet(), nil)
			if err != nil {
				t.Fatal(err)
			}
			p := newPipes()
			server := registryapi.NewServer(hostedConfig(), door, quiet())
			done := make(chan error)
			go func() { done <- server.Serve(p) }()
			conn := p.dial()
			location := func() string {
				rawRequest(t, conn, "POST", "/v2/farm.internal/a/blobs/uploads/", 0)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				return resp.Header.Get("Location")
			}()
			data := []byte("some bytes")
			rawRequest(t, conn, "PUT", with(location, oci.FromBytes(oci.SHA256, data)), len(data))
			if _, err := conn.Write(data); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != want {
				t.Errorf("PUT that takes %v: %v, %v; want %d", takes, resp, err, want)
			}
			_ = conn.Close()
			_ = server.Close()
			<-done
		})
	}
}

// FuzzPush holds the door to: no panic, no 5xx, and every refusal in the specification's form, whatever is sent.
func FuzzPush(f *testing.F) {
	store := newFarm(f, nil)
	door := newHostedDoor(f, hostedConfig(), store)
	for _, target := range []string{
		"/v2/farm.internal/a/blobs/uploads/", "/v2/farm.internal/a/blobs/uploads/?digest=" + unknown, "/v2/farm.internal/a/blobs/uploads/?mount=" + unknown + "&from=x",
		"/v2/a/blobs/uploads/?ns=farm.internal&digest-algorithm=sha512", "/v2/farm.internal/a/blobs/uploads/aaaaaaaaaaaaaaaaaaaaaaaaaa?digest=" + unknown,
		"/v2/farm.internal/a/manifests/x", "/v2/farm.internal/a/manifests/" + unknown + "?tag=a&tag=b", "/v2/farm.internal/a/blobs/" + unknown, "/v2/_catalog?n=1",
	} {
		for _, method := range []string{"POST", "PATCH", "PUT", "DELETE", "GET"} {
			f.Add(method, target, "0-1", oci.MediaTypeOCIManifest, []byte(`{"schemaVersion":2,"config":{}}`))
		}
	}
	f.Fuzz(func(t *testing.T, method, target, contentRange, contentType string, sent []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Skip() // answered 400 by net/http
		}
		r := &http.Request{
			Method: method, URL: u, Host: "localhost", RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Range": {contentRange}, "Content-Type": {contentType}},
			Body:   io.NopCloser(bytes.NewReader(sent)), ContentLength: int64(len(sent)),
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code >= 500 && store.store.Usage().Uploads < 4096 {
			t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code >= 400 && !strings.HasPrefix(w.Body.String(), `{"errors":[{"code":"`) {
			t.Errorf("%s %q: %d with body %q; want an error of the specification's form", method, target, w.Code, w.Body)
		}
	})
}
