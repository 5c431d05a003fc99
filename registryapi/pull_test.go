package registryapi_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

const unknown = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func TestBaseSaysThatThisIsARegistry(t *testing.T) {
	server := serve(t, testConfig(), newMemory())
	for _, path := range []string{"/v2/", "/v2"} {
		got := ask(t, server, "GET", path)
		if got.status != 200 || got.header.Get("Docker-Distribution-Api-Version") != "registry/2.0" || got.body != "{}" {
			t.Errorf("GET %s = %d %q %q; want 200 registry/2.0 {}", path, got.status,
				got.header.Get("Docker-Distribution-Api-Version"), got.body)
		}
	}
	if got := ask(t, server, "HEAD", "/v2/"); got.status != 200 || got.body != "" {
		t.Errorf("HEAD /v2/ = %d %q; want 200 and no body", got.status, got.body)
	}
}

func TestManifestIsServedUnchanged(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	raw := string(registry.manifests[img.repo]["1"].Raw)
	for _, ref := range []string{"1", img.index.Digest.String()} {
		for _, method := range []string{"GET", "HEAD"} {
			got := ask(t, server, method, "/v2/library/app/manifests/"+ref, "Accept-Encoding", "gzip")
			want := raw
			if method == "HEAD" {
				want = ""
			}
			if got.status != 200 || got.body != want || got.length != img.index.Size {
				t.Errorf("%s %s: %d, %d bytes announced, body %q; want 200, %d, %q", method, ref, got.status, got.length,
					got.body, img.index.Size, want)
			}
			for name, want := range map[string]string{
				"Content-Type": oci.MediaTypeDockerList, "Docker-Content-Digest": img.index.Digest.String(),
				"Etag": `"` + img.index.Digest.String() + `"`, "OCI-Namespace": "docker.io", "Content-Encoding": "", "Warning": "",
			} {
				if got.header.Get(name) != want {
					t.Errorf("%s %s: %s is %q; want %q", method, ref, name, got.header.Get(name), want)
				}
			}
		}
	}
}

func TestOnlyWhatADigestNamesIsCachedForEver(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for path, want := range map[string]string{
		"/v2/library/app/manifests/1":                               "no-cache",
		"/v2/library/app/manifests/" + img.index.Digest.String():    "max-age=31536000, immutable",
		"/v2/library/app/blobs/" + img.layers[0].Digest.String():    "max-age=31536000, immutable",
		"/v2/library/app/blobs/" + unknown:                          "no-store",
		"/v2/library/app/manifests/" + strings.Repeat("missing", 3): "no-store",
	} {
		if got := ask(t, server, "GET", path).header.Get("Cache-Control"); got != want {
			t.Errorf("GET %s: Cache-Control %q; want %q", path, got, want)
		}
	}
}

func TestAcceptConvertsNothing(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for _, test := range []struct{ lines, want []string }{
		{nil, nil},
		{[]string{"*/*"}, []string{"*/*"}},
		{[]string{"application/json"}, []string{"application/json"}},
		{[]string{oci.MediaTypeOCIManifest}, []string{oci.MediaTypeOCIManifest}},
		{[]string{"Application/JSON;q=0.5 , a/b; q=0, c/d;x=1;q=0.000", " e/f ,,"}, []string{"application/json", "e/f"}},
		{[]string{"a/b;q=0"}, nil},
	} {
		var header []string
		for _, line := range test.lines {
			header = append(header, "Accept", line)
		}
		got := ask(t, server, "GET", "/v2/library/app/manifests/1", header...)
		if got.status != 200 || got.header.Get("Content-Type") != img.index.MediaType {
			t.Errorf("Accept %q: %d %s; want 200 %s", test.lines, got.status, got.header.Get("Content-Type"), img.index.MediaType)
		}
		if !slices.Equal(registry.accepted, test.want) {
			t.Errorf("Accept %q reached the registry as %q; want %q", test.lines, registry.accepted, test.want)
		}
	}
}

func TestSchema1IsLeftToTheUpstream(t *testing.T) {
	registry := newMemory()
	repo := oci.Repository{Upstream: "docker.io", Path: "library/old"}
	registry.addManifest(repo, "1", oci.MediaTypeDockerSigned1, map[string]any{"schemaVersion": 1})
	server := serve(t, testConfig(), registry)
	wantError(t, "schema 1", ask(t, server, "GET", "/v2/library/old/manifests/1"), 404, "UNSUPPORTED")
}

func TestStaleAnswersCarryAWarning(t *testing.T) {
	registry := newMemory()
	registry.addImage("docker.io", "library/app", "1")
	registry.tweak = func(m registryapi.Manifest) (registryapi.Manifest, bool) {
		m.Stale = true
		return m, true
	}
	server := serve(t, testConfig(), registry)
	got := ask(t, server, "GET", "/v2/library/app/manifests/1")
	if got.status != 200 || !strings.HasPrefix(got.header.Get("Warning"), `299 - "`) {
		t.Errorf("stale manifest: %d, Warning %q; want 200 with a warning 299", got.status, got.header.Get("Warning"))
	}
}

func TestAWrongManifestFromInsideIsNotServed(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for name, tweak := range map[string]func(m *registryapi.Manifest){
		"other digest": func(m *registryapi.Manifest) { m.Digest = oci.MustDigest(unknown) },
		"cut short":    func(m *registryapi.Manifest) { m.Raw = m.Raw[:10] },
	} {
		registry.tweak = func(m registryapi.Manifest) (registryapi.Manifest, bool) {
			tweak(&m)
			return m, true
		}
		got := ask(t, server, "GET", "/v2/library/app/manifests/"+img.index.Digest.String())
		wantError(t, name, got, 500, "UNKNOWN")
	}
}

func TestBlobByGetAndHead(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("quay.io", "team/tool", "1")
	server := serve(t, testConfig(), registry)
	layer := img.layers[1]
	path := "/v2/quay.io/team/tool/blobs/" + layer.Digest.String()
	for _, method := range []string{"HEAD", "GET"} {
		got := ask(t, server, method, path)
		want := string(registry.blobs[layer.Digest])
		if method == "HEAD" {
			want = ""
			if registry.fetched[layer.Digest] != 0 {
				t.Errorf("HEAD fetched %d bytes; want none", registry.fetched[layer.Digest])
			}
		}
		if got.status != 200 || got.length != layer.Size || got.body != want {
			t.Errorf("%s: %d, %d bytes announced, %d sent; want 200, %d, %d", method, got.status, got.length, len(got.body),
				layer.Size, len(want))
		}
		for name, want := range map[string]string{
			"Content-Type": "application/octet-stream", "Docker-Content-Digest": layer.Digest.String(),
			"Etag": `"` + layer.Digest.String() + `"`, "Accept-Ranges": "bytes", "OCI-Namespace": "quay.io",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s is %q; want %q", method, name, got.header.Get(name), want)
			}
		}
	}
}

func TestEmptyBlob(t *testing.T) {
	registry := newMemory()
	repo := oci.Repository{Upstream: "docker.io", Path: "library/app"}
	d := registry.addBlob(repo, nil).Digest
	server := serve(t, testConfig(), registry)
	if got := ask(t, server, "GET", "/v2/app/blobs/"+d.String()); got.status != 200 || got.length != 0 || got.header.Get("Etag") == "" {
		t.Errorf("empty blob: %d, %d bytes, ETag %q; want 200, 0 and one", got.status, got.length, got.header.Get("Etag"))
	}
	got := ask(t, server, "GET", "/v2/app/blobs/"+d.String(), "Range", "bytes=0-")
	wantError(t, "range of an empty blob", got, 416, "RANGE_INVALID")
}

func TestABlobIsReachableOnlyThroughARepositoryThatLinksIt(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	registry.addImage("docker.io", "library/other", "1")
	server := serve(t, testConfig(), registry)
	path := "/v2/library/other/blobs/" + img.config.Digest.String()
	wantError(t, "blob of another repository", ask(t, server, "GET", path), 404, "BLOB_UNKNOWN")
	wantError(t, "the same, cached by the client", ask(t, server, "GET", path, "If-None-Match", "*"), 404, "BLOB_UNKNOWN")
}

func TestRanges(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	d := img.layers[0].Digest
	data := string(registry.blobs[d])
	size := len(data)
	etag := `"` + d.String() + `"`
	part := func(off, end int) (int, string, string) {
		return 206, data[off:end], fmt.Sprintf("bytes %d-%d/%d", off, end-1, size)
	}
	for _, test := range []struct {
		name, value, ifRange string
		want                 func() (int, string, string)
	}{
		{"first bytes", "bytes=0-99", "", func() (int, string, string) { return part(0, 100) }},
		{"one byte", "bytes=7-7", "", func() (int, string, string) { return part(7, 8) }},
		{"open, as dockerd and ctr resume", "bytes=1000-", "", func() (int, string, string) { return part(1000, size) }},
		{"to the size, as regctl resumes", "bytes=1000-" + strconv.Itoa(size), "", func() (int, string, string) { return part(1000, size) }},
		{"suffix", "bytes=-10", "", func() (int, string, string) { return part(size-10, size) }},
		{"suffix beyond the start", "bytes=-999999999", "", func() (int, string, string) { return part(0, size) }},
		{"huge end", "bytes=5-99999999999999999999999", "", func() (int, string, string) { return part(5, size) }},
		{"spaces and case", "Bytes= 5-6 ", "", func() (int, string, string) { return part(5, 7) }},
		{"If-Range matches", "bytes=5-6", etag, func() (int, string, string) { return part(5, 7) }},
		{"If-Range of another version", "bytes=5-6", `"other"`, func() (int, string, string) { return 200, data, "" }},
		{"weak If-Range", "bytes=5-6", "W/" + etag, func() (int, string, string) { return 200, data, "" }},
		{"If-Range by date", "bytes=5-6", "Mon, 02 Jan 2006 15:04:05 GMT", func() (int, string, string) { return 200, data, "" }},
		{"several ranges", "bytes=0-1,5-6", "", func() (int, string, string) { return 200, data, "" }},
		{"another unit", "pieces=1-2", "", func() (int, string, string) { return 200, data, "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry.fetched[d] = 0
			header := []string{"Range", test.value}
			if test.ifRange != "" {
				header = append(header, "If-Range", test.ifRange)
			}
			got := ask(t, server, "GET", "/v2/library/app/blobs/"+d.String(), header...)
			status, body, contentRange := test.want()
			if got.status != status || got.body != body || got.length != int64(len(body)) || got.header.Get("Content-Range") != contentRange {
				t.Errorf("Range %s: %d, %d bytes, Content-Range %q; want %d, %d bytes, %q", test.value, got.status, len(got.body),
					got.header.Get("Content-Range"), status, len(body), contentRange)
			}
			if registry.fetched[d] != int64(len(body)) {
				t.Errorf("Range %s read %d bytes of the blob; want %d", test.value, registry.fetched[d], len(body))
			}
		})
	}
}

func TestRangesThatCannotBeSatisfied(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	d, size := img.layers[0].Digest, img.layers[0].Size
	for _, value := range []string{
		"bytes=" + strconv.FormatInt(size, 10) + "-", "bytes=99999999999999999999-", "bytes=-0", "bytes=5-4", "bytes=", "bytes",
		"bytes=a-b", "bytes=-", "bytes=1", "bytes=--1", "bytes=1-2-3", "bytes=0x1-2", "bytes=1-2,x",
	} {
		got := ask(t, server, "GET", "/v2/library/app/blobs/"+d.String(), "Range", value)
		wantError(t, value, got, 416, "RANGE_INVALID")
		if want := "bytes */" + strconv.FormatInt(size, 10); got.header.Get("Content-Range") != want {
			t.Errorf("Range %s: Content-Range %q; want %q", value, got.header.Get("Content-Range"), want)
		}
	}
	if registry.fetched[d] != 0 {
		t.Errorf("ranges that cannot be satisfied read %d bytes; want none", registry.fetched[d])
	}
}

func TestIfNoneMatchSavesTheBody(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	for path, d := range map[string]oci.Digest{
		"/v2/library/app/manifests/1":                            img.index.Digest,
		"/v2/library/app/blobs/" + img.layers[0].Digest.String(): img.layers[0].Digest,
	} {
		etag := `"` + d.String() + `"`
		for value, want := range map[string]int{etag: 304, `"x", W/` + etag: 304, "*": 304, `"x"`: 200, d.String(): 200} {
			got := ask(t, server, "GET", path, "If-None-Match", value)
			if got.status != want || got.header.Get("Etag") != etag || got.header.Get("Docker-Content-Digest") != d.String() {
				t.Errorf("GET %s, If-None-Match %s: %d, ETag %s; want %d, %s", path, value, got.status, got.header.Get("Etag"), want, etag)
			}
			if want == 304 && got.body != "" {
				t.Errorf("GET %s: 304 with a body of %d bytes", path, len(got.body))
			}
		}
	}
}

func TestTagsPointToTheNextPageOfTheMirror(t *testing.T) {
	registry := newMemory()
	for _, tag := range []string{"a", "b", "c"} {
		registry.addImage("quay.io", "team/tool", tag)
	}
	registry.next = `</v2/team/tool/tags/list?last=b&n=2>; rel="next"`
	server := serve(t, testConfig(), registry)
	for path, link := range map[string]string{
		"/v2/quay.io/team/tool/tags/list?n=2":    `</v2/quay.io/team/tool/tags/list?last=b&n=2>; rel="next"`,
		"/v2/team/tool/tags/list?ns=quay.io&n=2": `</v2/team/tool/tags/list?last=b&n=2&ns=quay.io>; rel="next"`,
	} {
		got := ask(t, server, "GET", path)
		if got.status != 200 || got.body != `{"name":"team/tool","tags":["a","b"]}` || got.header.Get("Link") != link {
			t.Errorf("GET %s: %d %s, Link %s; want Link %s", path, got.status, got.body, got.header.Get("Link"), link)
		}
	}
	registry.next = ""
	got := ask(t, server, "GET", "/v2/quay.io/team/tool/tags/list?last=b&n=2")
	if got.body != `{"name":"team/tool","tags":["c"]}` || got.header.Get("Link") != "" {
		t.Errorf("last page: %s, Link %q; want the tag c and no Link", got.body, got.header.Get("Link"))
	}
}

func TestTagsWithNZeroAreEmpty(t *testing.T) {
	server := serve(t, testConfig(), newMemory())
	got := ask(t, server, "GET", "/v2/library/app/tags/list?n=0")
	if got.status != 200 || got.body != `{"name":"library/app","tags":[]}` || got.header.Get("Link") != "" {
		t.Errorf("n=0: %d %s, Link %q; want 200, no tags, no Link", got.status, got.body, got.header.Get("Link"))
	}
}

func TestTagsThatCannotBePagedAreLeftToTheUpstream(t *testing.T) {
	registry := newMemory()
	registry.addImage("quay.io", "team/tool", "a")
	server := serve(t, testConfig(), registry)
	for _, link := range []string{`</v2/team/tool/tags/list?next_page=gAAA>; rel="next"`, "nonsense", "<%zz>", "</x?last=%00>"} {
		registry.next = link
		got := ask(t, server, "GET", "/v2/quay.io/team/tool/tags/list")
		wantError(t, link, got, 404, "UNSUPPORTED")
	}
}

func TestReferrers(t *testing.T) {
	registry := newMemory()
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	var asked string
	registry.refer = func(d oci.Digest, artifactType string) (registryapi.Page, error) {
		asked = artifactType
		return registryapi.Page{Raw: []byte(index), Filtered: artifactType == "a/b"}, nil
	}
	server := serve(t, testConfig(), registry)
	for _, test := range []struct{ query, artifactType, applied string }{
		{"", "", ""},
		{"?artifactType=a%2Fb", "a/b", "artifactType"},
		{"?artifactType=c/d", "c/d", ""},
	} {
		got := ask(t, server, "GET", "/v2/library/app/referrers/"+unknown+test.query)
		if got.status != 200 || got.body != index || got.header.Get("Content-Type") != oci.MediaTypeOCIIndex {
			t.Errorf("referrers%s: %d %s %s", test.query, got.status, got.header.Get("Content-Type"), got.body)
		}
		if asked != test.artifactType || got.header.Get("OCI-Filters-Applied") != test.applied {
			t.Errorf("referrers%s asked for %q, OCI-Filters-Applied %q; want %q, %q", test.query, asked,
				got.header.Get("OCI-Filters-Applied"), test.artifactType, test.applied)
		}
	}
	registry.refer = func(oci.Digest, string) (registryapi.Page, error) { return registryapi.Page{}, oci.ErrUnsupported }
	wantError(t, "no referrers API", ask(t, server, "GET", "/v2/library/app/referrers/"+unknown), 404, "UNSUPPORTED")
}

func TestClientsThatSitARetryAfterOutAreToldAShortOne(t *testing.T) {
	for userAgent, want := range map[string]string{
		"docker/20.10.24 go/go1.19":                       "60",
		"containerd/1.6.20":                               "60",
		"containers/5.23.1 (github.com/containers/image)": "1",
		"skopeo/1.9.3":                                    "1",
		"Buildah/1.28.2":                                  "1",
	} {
		f := registryapi.RetryAfter(&oci.TooManyRequestsError{RetryAfter: time.Minute}, userAgent)
		if f != want {
			t.Errorf("Retry-After for %q = %s; want %s", userAgent, f, want)
		}
	}
}
