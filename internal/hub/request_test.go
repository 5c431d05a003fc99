package hub

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestPathsAreUnderstood(t *testing.T) {
	d := digest.FromString("x").String()
	for path, want := range map[string]request{
		"/v2/":                                 {kind: Ping},
		"/v2/app/manifests/1":                  {kind: Manifest, repo: "app", ref: "1"},
		"/v2/library/app/manifests/" + d:       {kind: Manifest, repo: "library/app", ref: d},
		"/v2/a/blobs/b/blobs/" + d:             {kind: Blob, repo: "a/blobs/b", ref: d},
		"/v2/library/app/blobs/uploads/":       {kind: Upload, repo: "library/app"},
		"/v2/library/app/blobs/uploads":        {kind: Upload, repo: "library/app"},
		"/v2/library/app/blobs/uploads/some-1": {kind: Upload, repo: "library/app", ref: "some-1"},
		"/v2/library/app/tags/list":            {kind: Tags, repo: "library/app"},
		"/v2/library/app/referrers/" + d:       {kind: Referrers, repo: "library/app", ref: d},
		"/v2/_catalog":                         {kind: Catalog},
		"/v2//manifests/1":                     {kind: unknown, ref: "1"},
		"/v2/app":                              {kind: unknown},
		"/v1/_ping":                            {kind: unknown},
	} {
		want.method = "GET"
		if got := parseV2("GET", path); got != want {
			t.Errorf("parseV2(%s) = %+v; want %+v", path, got, want)
		}
	}
}

// FuzzRequest sends any path, query and token to all three parts at once: no answer may be a 5xx,
// and what was signed by nobody opens nothing.
func FuzzRequest(f *testing.F) {
	h, err := Start(Config{AuthListen: Same, CDNListen: Same, Private: map[string][]string{"secret/app": nil}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	d, err := h.PutBlob("secret/app", []byte("the secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/v2/secret/app/blobs/"+d.String(), "n=1", "Bearer "+h.grant("", []string{"repository:secret/app:pull"}).Token)
	f.Add("GET", cdnPrefix+"sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data", "repo=secret/app&expires=9000000000000000000", "")
	f.Add("GET", "/token", "scope=repository:secret/app:pull&scope=:::", "Basic eDp5")
	f.Add("POST", "/v2/secret/app/blobs/uploads/", "digest=x", "Bearer a.b.c")
	f.Add("PUT", "/v2/a/manifests/"+d.String(), "", "Bearer ..")
	f.Fuzz(func(t *testing.T, method, path, query, authorization string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(""))
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		h.ends[registryEnd].serveHTTP(w, r)
		if w.Code >= 500 || strings.Contains(w.Body.String(), "the secret") {
			t.Errorf("%q %q?%q: %d %s", method, path, query, w.Code, w.Body)
		}
	})
}

// readerFrom is a response that shows what it was asked to send.
type readerFrom struct {
	*httptest.ResponseRecorder
	files int
}

func (w *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			w.files++
		}
	}
	return io.Copy(w.ResponseRecorder, src)
}

func TestFilesReachTheServerAsFiles(t *testing.T) {
	h, err := Start(Config{AuthOff: true, NoRedirect: true, Rate: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	data := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
	path, d := t.TempDir()+"/blob", digest.FromBytes(data)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.PutBlobFile("library/app", d, path, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	h.ends[registryEnd].serveHTTP(w, httptest.NewRequest("GET", "/v2/library/app/blobs/"+d.String(), nil))
	if !bytes.Equal(w.Body.Bytes(), data) || w.files < len(data)/unshaped {
		t.Errorf("%d bytes came in %d parts that sendfile could take; want %d in at least %d",
			w.Body.Len(), w.files, len(data), len(data)/unshaped)
	}
}
