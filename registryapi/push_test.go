package registryapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

// pusher is a client of one hosted repository.
type pusher struct {
	t      *testing.T
	server *httptest.Server
	repo   string // of the path, "farm.internal/team/app"
	query  string // "?ns=…" or ""
}

func newPusher(t *testing.T) (pusher, *farm) {
	f := newFarm(t, nil)
	return pusher{t: t, server: serveFarm(t, hostedConfig(), f), repo: hostedPrefix + "/team/app"}, f
}

// do sends a request to a path below the repository, or to a Location; header is pairs of names and values.
func (p pusher) do(method, path string, body io.Reader, header ...string) answer {
	p.t.Helper()
	target := path
	if !strings.HasPrefix(path, "/v2/") {
		target = "/v2/" + p.repo + path
		if p.query != "" {
			target += p.query
		}
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.server.URL+target, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := p.server.Client().Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(raw)}
}

// want is do with a status that must come.
func (p pusher) want(status int, method, path string, body io.Reader, header ...string) answer {
	p.t.Helper()
	got := p.do(method, path, body, header...)
	if got.status != status {
		p.t.Fatalf("%s %s: %d %s; want %d", method, path, got.status, got.body, status)
	}
	return got
}

func (p pusher) start() string {
	p.t.Helper()
	got := p.want(202, "POST", "/blobs/uploads/", nil)
	location := got.header.Get("Location")
	if location == "" || got.header.Get("Docker-Upload-UUID") == "" || got.header.Get("Range") != "0-0" || got.length != 0 {
		p.t.Fatalf("POST: %v; want Location, Docker-Upload-UUID, Range 0-0 and no body", got.header)
	}
	return location
}

// with is a location with a digest.
func with(location string, d oci.Digest) string {
	u, err := url.Parse(location)
	if err != nil {
		panic(err)
	}
	values := u.Query()
	values.Set("digest", d.String())
	u.RawQuery = values.Encode()
	return u.String()
}

func (p pusher) blob(data []byte) oci.Descriptor {
	p.t.Helper()
	d := oci.FromBytes(oci.SHA256, data)
	got := p.want(201, "PUT", with(p.start(), d), bytes.NewReader(data))
	p.created(got, d, data)
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}

// created checks the answer to a push of a blob, and that the blob is there.
func (p pusher) created(got answer, d oci.Digest, data []byte) {
	p.t.Helper()
	if got.header.Get("Docker-Content-Digest") != d.String() {
		p.t.Errorf("Docker-Content-Digest %q; want %s", got.header.Get("Docker-Content-Digest"), d)
	}
	back := p.want(200, "GET", got.header.Get("Location"), nil)
	if back.body != string(data) {
		p.t.Errorf("GET of the Location: %d bytes; want all %d", len(back.body), len(data))
	}
	head := p.want(200, "HEAD", "/blobs/"+d.String(), nil)
	if head.length != int64(len(data)) || head.header.Get("Docker-Content-Digest") != d.String() {
		p.t.Errorf("HEAD: length %d, %v; want %d", head.length, head.header, len(data))
	}
}

func (p pusher) unknownBlob(d oci.Digest) {
	p.t.Helper()
	wantError(p.t, "blob that is not there", p.do("GET", "/blobs/"+d.String(), nil), 404, codeOfBlob(p.do("GET", "/blobs/"+d.String(), nil)))
}

// codeOfBlob is BLOB_UNKNOWN, or NAME_UNKNOWN for a repository that nobody has pushed to.
func codeOfBlob(got answer) string {
	if strings.Contains(got.body, "NAME_UNKNOWN") {
		return "NAME_UNKNOWN"
	}
	return "BLOB_UNKNOWN"
}

func someBytes(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	_, _ = r.Read(data)
	return data
}

func (p pusher) manifest(status int, ref, mediaType string, content any, header ...string) (oci.Digest, []byte, answer) {
	p.t.Helper()
	raw, err := json.Marshal(content)
	if err != nil {
		p.t.Fatal(err)
	}
	d := oci.FromBytes(oci.SHA256, raw)
	ref = strings.ReplaceAll(ref, "DIGEST", d.String())
	got := p.want(status, "PUT", "/manifests/"+ref, bytes.NewReader(raw), append(header, "Content-Type", mediaType)...)
	return d, raw, got
}

func imageOf(mediaType string, config oci.Descriptor, layers ...oci.Descriptor) map[string]any {
	return map[string]any{"schemaVersion": 2, "mediaType": mediaType, "config": config, "layers": layers}
}

func TestBlobsArePushedInEveryWay(t *testing.T) {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		for _, size := range []int{0, 2, 512, 1<<20 + 17} {
			t.Run(fmt.Sprintf("%s/%d", algorithm, size), func(t *testing.T) { pushInEveryWay(t, algorithm, size) })
		}
	}
}

func pushInEveryWay(t *testing.T, algorithm string, size int) {
	p, _ := newPusher(t)
	fresh := func() ([]byte, oci.Digest) {
		data := someBytes(size)
		return data, oci.FromBytes(algorithm, data)
	}
	data, d := fresh()
	p.created(p.want(201, "POST", "/blobs/uploads/?digest="+d.String(), bytes.NewReader(data), "Content-Type", "application/octet-stream"), d, data)
	data, d = fresh()
	p.created(p.want(201, "PUT", with(p.start(), d), bytes.NewReader(data)), d, data)
	data, d = fresh()
	begun := p.want(202, "POST", "/blobs/uploads/?digest-algorithm="+algorithm, nil).header.Get("Location")
	p.created(p.want(201, "PUT", with(begun, d), bytes.NewReader(data)), d, data)

	// streamed, of a length that is not told
	data, d = fresh()
	sent := p.want(202, "PATCH", p.start(), struct{ io.Reader }{bytes.NewReader(data)})
	if want := "0-" + strconv.Itoa(max(0, size-1)); sent.header.Get("Range") != want {
		t.Errorf("PATCH: Range %q; want %q", sent.header.Get("Range"), want)
	}
	p.created(p.want(201, "PUT", with(sent.header.Get("Location"), d), nil), d, data)
	if size < 3 {
		return
	}
	for _, lastByPut := range []bool{false, true} {
		data, d = fresh()
		p.created(p.chunked(data, d, lastByPut), d, data)
	}
}

// chunked pushes three parts.
func (p pusher) chunked(data []byte, d oci.Digest, lastByPut bool) answer {
	p.t.Helper()
	location, third := p.start(), len(data)/3+1
	for first := 0; first < len(data); first += third {
		last := min(first+third, len(data)) - 1
		ranged := []string{"Content-Range", fmt.Sprintf("%d-%d", first, last), "Content-Type", "application/octet-stream"}
		part := bytes.NewReader(data[first : last+1])
		if lastByPut && last == len(data)-1 {
			return p.want(201, "PUT", with(location, d), part, ranged...)
		}
		got := p.want(202, "PATCH", location, part, ranged...)
		if want := fmt.Sprintf("0-%d", last); got.header.Get("Range") != want {
			p.t.Errorf("PATCH of %d-%d: Range %q; want %q", first, last, got.header.Get("Range"), want)
		}
		location = got.header.Get("Location")
	}
	return p.want(201, "PUT", with(location, d), nil)
}

func TestAPartOutOfOrderIsRefusedAndTheUploadGoesOn(t *testing.T) {
	p, _ := newPusher(t)
	data := someBytes(300)
	d := oci.FromBytes(oci.SHA256, data)
	location := p.want(202, "PATCH", p.start(), bytes.NewReader(data[:100]), "Content-Range", "0-99").header.Get("Location")
	for _, out := range []string{"200-299", "0-99", "99-198", "101-200"} {
		first, _ := strconv.Atoi(strings.Split(out, "-")[0])
		got := p.do("PATCH", location, bytes.NewReader(data[first:min(300, first+100)]), "Content-Range", out)
		wantError(t, "PATCH "+out, got, 416, "BLOB_UPLOAD_INVALID")
		if got.header.Get("Range") != "0-99" || got.header.Get("Location") == "" {
			t.Errorf("416: %v; want Range 0-99 and a Location", got.header)
		}
		wantError(t, "PUT "+out, p.do("PUT", with(location, d), bytes.NewReader(data[first:min(300, first+100)]), "Content-Range", out), 416, "BLOB_UPLOAD_INVALID")
	}
	status := p.want(204, "GET", location, nil)
	if status.header.Get("Range") != "0-99" || status.header.Get("Location") == "" || status.header.Get("Docker-Upload-UUID") == "" {
		t.Errorf("GET of the upload: %v; want Range 0-99, Location and Docker-Upload-UUID", status.header)
	}
	for text, code := range map[string]string{"100-": "BLOB_UPLOAD_INVALID", "x": "BLOB_UPLOAD_INVALID", "200-100": "BLOB_UPLOAD_INVALID", "100-298": "SIZE_INVALID"} {
		wantError(t, "Content-Range "+text, p.do("PATCH", location, bytes.NewReader(data[100:]), "Content-Range", text), 400, code)
	}
	p.created(p.want(201, "PUT", with(location, d), bytes.NewReader(data[100:]), "Content-Range", "bytes 100-299/300"), d, data)
	wantError(t, "GET of an upload that has ended", p.do("GET", location, nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestAWrongDigestIsRefusedAndTheBlobStaysUnknown(t *testing.T) {
	p, f := newPusher(t)
	data := someBytes(1000)
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		d, bad := oci.FromBytes(algorithm, data), append([]byte("oh no"), data...)
		wantError(t, "POST", p.do("POST", "/blobs/uploads/?digest="+d.String(), bytes.NewReader(bad)), 400, "DIGEST_INVALID")
		location := p.start()
		wantError(t, "PUT", p.do("PUT", with(location, d), bytes.NewReader(bad)), 400, "DIGEST_INVALID")
		wantError(t, "PUT again", p.do("PUT", with(location, d), nil), 404, "BLOB_UPLOAD_UNKNOWN")
		location = p.want(202, "PATCH", p.start(), bytes.NewReader(bad)).header.Get("Location")
		wantError(t, "PATCH and PUT", p.do("PUT", with(location, d), nil), 400, "DIGEST_INVALID")
		p.unknownBlob(d)
		p.unknownBlob(oci.FromBytes(algorithm, bad))
	}
	wantError(t, "no digest", p.do("PUT", p.start(), bytes.NewReader(data)), 400, "DIGEST_INVALID")
	wantError(t, "digest that is none", p.do("POST", "/blobs/uploads/?digest=sha256:x", bytes.NewReader(data)), 400, "DIGEST_INVALID")
	wantError(t, "algorithm that is none", p.do("POST", "/blobs/uploads/?digest-algorithm=md5", nil), 400, "DIGEST_INVALID")
	if got := f.store.Usage().Uploads; got != 1 {
		t.Errorf("%d uploads are left; want the one that lacked a digest", got)
	}
}

func TestUploadsAreCancelled(t *testing.T) {
	p, f := newPusher(t)
	location := p.want(202, "PATCH", p.start(), bytes.NewReader(someBytes(100))).header.Get("Location")
	p.want(204, "DELETE", location, nil)
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		wantError(t, method+" after DELETE", p.do(method, location, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	if u := f.store.Usage(); u.Uploads != 0 || u.UploadBytes != 0 {
		t.Errorf("%d uploads of %d bytes are left; want none", u.Uploads, u.UploadBytes)
	}
	other := pusher{t: t, server: p.server, repo: hostedPrefix + "/other"}
	location = p.start()
	wantError(t, "upload of another repository", other.do("GET", strings.ReplaceAll(location, p.repo, other.repo), nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestBlobsAreMounted(t *testing.T) {
	p, _ := newPusher(t)
	other := pusher{t: t, server: p.server, repo: hostedPrefix + "/other"}
	data := someBytes(700)
	d := other.blob(data).Digest
	p.unknownBlob(d)
	for _, query := range []string{"&from=" + hostedPrefix + "/none", "&from=x..y", "&from=library/nginx", "&from=unknown.example.com/x"} {
		got := p.want(202, "POST", "/blobs/uploads/?mount="+d.String()+query, nil)
		p.want(204, "DELETE", got.header.Get("Location"), nil)
	}
	p.unknownBlob(d)
	p.created(p.want(201, "POST", "/blobs/uploads/?mount="+d.String()+"&from="+other.repo, nil), d, data)
	p.want(202, "DELETE", "/blobs/"+d.String(), nil)
	p.unknownBlob(d)
	other.want(200, "GET", "/blobs/"+d.String(), nil) // is seen where it still is linked
	p.created(p.want(201, "POST", "/blobs/uploads/?mount="+d.String()+"&from="+other.repo+"&origin=x", nil), d, data)
	third := pusher{t: t, server: p.server, repo: hostedPrefix + "/third"}
	third.created(third.want(201, "POST", "/blobs/uploads/?mount="+d.String(), nil), d, data)
	missing := oci.FromBytes(oci.SHA256, someBytes(3))
	location := third.want(202, "POST", "/blobs/uploads/?mount="+missing.String(), nil).header.Get("Location")
	third.created(third.want(201, "PUT", with(location, d), bytes.NewReader(data)), d, data)
}

func TestOnlyHostedNamesArePushed(t *testing.T) {
	p, f := newPusher(t)
	f.addImage("docker.io", "library/app", "1")
	for _, request := range []string{
		"POST /v2/library/app/blobs/uploads/", "POST /v2/app/blobs/uploads/", "POST /v2/quay.io/team/app/blobs/uploads/",
		"POST /v2/unknown.example.com/x/blobs/uploads/", "POST /v2/team/app/blobs/uploads/?ns=quay.io",
		"PATCH /v2/library/app/blobs/uploads/aaaaaaaaaaaaaaaaaaaaaaaaaa", "PUT /v2/library/app/manifests/1",
		"DELETE /v2/library/app/manifests/1", "DELETE /v2/library/app/blobs/" + unknown,
	} {
		method, path, _ := strings.Cut(request, " ")
		got := p.do(method, path, strings.NewReader("x"))
		wantError(t, request, got, 403, "DENIED")
		if !strings.Contains(got.body, hostedPrefix) {
			t.Errorf("%s: %s; want the prefix named", request, got.body)
		}
	}
	for request, status := range map[string]int{
		"PUT /v2/": 404, "POST /v2/x": 404, "POST /v2/farm.internal/a/tags/list": 405, "PUT /v2/farm.internal/a/blobs/" + unknown: 405,
		"POST /v2/farm.internal/a/blobs/uploads/aaaaaaaaaaaaaaaaaaaaaaaaaa": 405, "POST /v2/farm.internal/../x/blobs/uploads/": 400,
		"POST /v2/farm.internal/A/blobs/uploads/": 400, "POST /v2/farm.internal/a//blobs/uploads/": 400, "POST /v2/farm.internal/a/blobs/uploads//": 400,
		"OPTIONS /v2/farm.internal/a/manifests/1": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := p.do(method, path, nil); got.status != status {
			t.Errorf("%s: %d %s; want %d", request, got.status, got.body, status)
		}
	}
	wantError(t, "push by a web page", p.do("POST", "/blobs/uploads/", nil, "Sec-Fetch-Site", "cross-site"), 403, "DENIED")
	p.want(200, "GET", "/v2/library/app/manifests/1", nil)
}

func TestTheRegistryOfTheFarmsOwnName(t *testing.T) {
	p, _ := newPusher(t)
	p.repo, p.query = "team/app", "?ns="+hostedPrefix
	data := someBytes(100)
	d := oci.FromBytes(oci.SHA256, data)
	location := p.start()
	if !strings.HasPrefix(location, "/v2/team/app/blobs/uploads/") || !strings.HasSuffix(location, p.query) {
		t.Errorf("Location %s; want the name and the ns that the client uses", location)
	}
	location = p.want(202, "PATCH", location, bytes.NewReader(data)).header.Get("Location")
	p.created(p.want(201, "PUT", with(location, d), nil), d, data)
	other := pusher{t: t, server: p.server, repo: hostedPrefix + "/team/app"}
	other.want(200, "GET", "/blobs/"+d.String(), nil)
}

func TestCatalogListsHostedRepositories(t *testing.T) {
	p, _ := newPusher(t)
	if got := p.want(200, "GET", "/v2/_catalog", nil).body; got != `{"repositories":[]}` {
		t.Errorf("catalog of nothing: %s; want an empty list", got)
	}
	for _, name := range []string{"c", "a/b", "b"} {
		pusher{t: t, server: p.server, repo: hostedPrefix + "/" + name}.blob([]byte(name))
	}
	if got := p.want(200, "GET", "/v2/_catalog", nil).body; got != `{"repositories":["farm.internal/a/b","farm.internal/b","farm.internal/c"]}` {
		t.Errorf("catalog: %s; want all in order", got)
	}
	got := p.want(200, "GET", "/v2/_catalog?n=2", nil)
	next, _, _ := strings.Cut(strings.TrimPrefix(got.header.Get("Link"), "<"), ">")
	if got := p.want(200, "GET", next, nil); got.body != `{"repositories":["farm.internal/c"]}` || got.header.Get("Link") != "" {
		t.Errorf("second page: %s, %v; want the last one, no link", got.body, got.header)
	}
	if got := p.want(200, "GET", "/v2/_catalog?n=0", nil).body; got != `{"repositories":[]}` {
		t.Errorf("page of none: %s; want an empty list", got)
	}
	wantError(t, "n that is none", p.do("GET", "/v2/_catalog?n=x", nil), 400, "PAGINATION_NUMBER_INVALID")
}
