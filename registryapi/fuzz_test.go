package registryapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// FuzzRequest holds the door to: no panic, no 5xx, and every refusal in the specification's form, whatever is asked.
func FuzzRequest(f *testing.F) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	registry.refer = func(oci.Digest, string) (registryapi.Page, error) { return registryapi.Page{Raw: []byte("{}")}, nil }
	door := newDoor(f, testConfig(), registry, nil)
	for _, target := range []string{
		"/v2/", "/v2/library/app/manifests/1?ns=docker.io", "/v2/app/blobs/" + img.layers[0].Digest.String(), "/v2/app/tags/list?n=1&last=a",
		"/v2/app/referrers/" + unknown + "?artifactType=a/b", "/v2/_catalog", "/v2/%2e%2e/x/manifests/1", "/v2/a%2Fb/manifests/1", "*", "http://x/v2/",
	} {
		f.Add("GET", target, "bytes=0-1", `"x"`, "*/*", "localhost:5000")
		f.Add("HEAD", target, "bytes=-5,1-", `W/"x", *`, "a/b;q=0", "[::1]:5000")
	}
	f.Fuzz(func(t *testing.T, method, target, rangeText, etags, accept, host string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Skip() // answered 400 by net/http
		}
		r := &http.Request{
			Method: method, URL: u, Host: host, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Range": {rangeText}, "If-None-Match": {etags}, "Accept": {accept}},
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code >= 500 {
			t.Errorf("%s %q, Range %q: %d %s", method, target, rangeText, w.Code, w.Body)
		}
		if w.Code >= 400 && !strings.HasPrefix(w.Body.String(), `{"errors":[{"code":"`) {
			t.Errorf("%s %q: %d with body %q; want an error of the specification's form", method, target, w.Code, w.Body)
		}
	})
}
