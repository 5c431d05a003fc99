package registryapi

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

var testNames = oci.Names{Default: oci.DockerHub, Upstreams: []string{oci.DockerHub, "quay.io"}}

// urlOf writes a request as a client would.
func urlOf(q request) string {
	var tail string
	switch q.kind {
	case kindManifest:
		tail = "manifests/" + q.ref.String()
	case kindBlob:
		tail = "blobs/" + q.d.String()
	case kindTags:
		tail = "tags/list"
	case kindReferrers:
		tail = "referrers/" + q.d.String()
	}
	values := url.Values{}
	for key, value := range map[string]string{"ns": q.query.ns, "n": q.query.n, "last": q.query.last, "artifactType": q.query.artifactType} {
		if value != "" {
			values.Set(key, value)
		}
	}
	return "/v2/" + q.name + "/" + tail + "?" + values.Encode()
}

// FuzzParseRequest holds what is accepted to a round trip: written again it parses to the same.
func FuzzParseRequest(f *testing.F) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, seed := range []string{
		"/v2/app/manifests/1", "/v2/a/manifests/manifests/blobs/blobs/" + digest, "/v2/quay.io/x/tags/list?n=3&last=%20a",
		"/v2/x/manifests/sha256%3A" + strings.Repeat("0a", 32) + "?ns=QUAY.io", "/v2/x/referrers/" + digest + "?artifactType=a%2Bb", "/v2/./x/tags/list",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			t.Skip()
		}
		q, err := parseRequest(u, testNames)
		if err != nil || q.kind == kindOther || q.kind == kindBase {
			return
		}
		for _, element := range strings.Split(u.Path, "/")[1:] {
			if element == "" || element == "." || element == ".." || strings.ContainsAny(element, "\x00\\") {
				t.Errorf("parseRequest(%q) accepted the element %q", text, element)
			}
		}
		again, err := url.ParseRequestURI(urlOf(q))
		if err != nil {
			t.Fatalf("%q became %q: %v", text, urlOf(q), err)
		}
		if got, err := parseRequest(again, testNames); err != nil || got != q {
			t.Errorf("%q written again as %q parses to %+v, %v; want %+v", text, again, got, err, q)
		}
	})
}

// FuzzRange holds every range to lie within the blob, and to mean the same when written again.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-", "bytes=-1", "bytes=1-2,3-4", "bytes=9223372036854775807-9223372036854775808", "BYTES= 1-1 "} {
		f.Add(seed, int64(1000))
	}
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			t.Skip()
		}
		spans, known, ok := parseRange(text)
		if ok && (!known || len(spans) == 0) {
			t.Fatalf("parseRange(%q) = %v, %t, %t", text, spans, known, ok)
		}
		for _, s := range spans {
			off, n, ok := s.within(size)
			if !ok {
				continue
			}
			if off < 0 || n < 1 || n > size || off > size-n {
				t.Fatalf("%q of %d bytes: %d at %d", text, size, n, off)
			}
			written := strings.TrimSuffix(strings.TrimPrefix(contentRange(off, n, size), "bytes "), "/"+strconv.FormatInt(size, 10))
			again, _, ok := parseRange("bytes=" + written)
			if !ok || len(again) != 1 {
				t.Fatalf("%q written as %q does not parse", text, written)
			}
			if off2, n2, _ := again[0].within(size); off2 != off || n2 != n {
				t.Errorf("%q written as %q is %d at %d; want %d at %d", text, written, n2, off2, n, off)
			}
		}
	})
}
