package testfarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

func TestHeadOfAnUncachedBlobDownloadsNothing(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 4*mib + 3
	d := put(t, f, 300, size, "library/head")
	for range 2 {
		for _, n := range f.Nodes {
			r := n.Ask(t.Context(), http.MethodHead, "library/head/blobs/"+d.String())
			if r.Status != http.StatusOK || r.Header.Get("Content-Length") != strconv.Itoa(size) || r.Header.Get("Docker-Content-Digest") != d.String() {
				t.Errorf("HEAD at %s = %d, length %s; want 200 and %d", n.ID(), r.Status, r.Header.Get("Content-Length"), size)
			}
		}
	}
	stats := f.Hub.Stats()
	if stats.BlobBytes != 0 || stats.Redirects != 0 || stats.Blobs[d.String()].Heads != 1 {
		t.Errorf("upstream sent %d bytes, answered %d GETs and %d HEADs; want one HEAD for the farm and nothing else",
			stats.BlobBytes, stats.Redirects, stats.Blobs[d.String()].Heads)
	}
}

func TestARangeOfAnUncachedBlobIsJustThatRange(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 5*mib + 11
	data := randomBytes(301, size)
	for i, c := range []struct {
		header, content string
		status          int
		want            []byte
	}{
		{"bytes=0-0", "bytes 0-0/%d", http.StatusPartialContent, data[:1]},
		{"bytes=2000000-2000999", "bytes 2000000-2000999/%d", http.StatusPartialContent, data[2000000:2001000]},
		{"bytes=-7", fmt.Sprintf("bytes %d-%d/%%d", size-7, size-1), http.StatusPartialContent, data[size-7:]},
		{fmt.Sprintf("bytes=%d-", size-9), fmt.Sprintf("bytes %d-%d/%%d", size-9, size-1), http.StatusPartialContent, data[size-9:]},
		{fmt.Sprintf("bytes=%d-", size), "bytes */%d", http.StatusRequestedRangeNotSatisfiable, nil},
	} {
		for k, n := range f.Nodes {
			data[0] = byte(10*i + k) // a blob of its own, uncached
			named, err := f.Hub.PutBlob("library/range", bytes.Clone(data))
			if err != nil {
				t.Fatal(err)
			}
			if c.want != nil && c.header == "bytes=0-0" {
				c.want = data[:1]
			}
			r := n.Ask(t.Context(), http.MethodGet, "library/range/blobs/"+named.String(), "Range", c.header)
			content := fmt.Sprintf(c.content, size)
			if r.Status != c.status || r.Header.Get("Content-Range") != content || c.want != nil && !bytes.Equal(r.Body, c.want) {
				t.Errorf("GET %s at %s = %d, %q, %d bytes; want %d, %q, %d bytes", c.header, n.ID(), r.Status,
					r.Header.Get("Content-Range"), r.Size, c.status, content, len(c.want))
			}
			if got := f.Hub.Stats().Blobs[named.String()].Bytes; got > size+mib {
				t.Errorf("%s cost %d bytes of the upstream; want at most the blob once and the range", c.header, got)
			}
		}
	}
}

func TestARangeBeyondWhatHasArrivedIsGivenFirst(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 24 * mib
	data := randomBytes(302, size)
	d := put(t, f, 302, size, "library/ahead")
	slow(f, d, 3*mib) // 8 s in all
	owner := f.Owner(d)
	r := owner.Ask(t.Context(), http.MethodGet, "library/ahead/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", size-5000, size-4001))
	if r.Status != http.StatusPartialContent || !bytes.Equal(r.Body, data[size-5000:size-4000]) {
		t.Errorf("GET of a range near the end = %d, %d bytes, %v; want 206 and the range", r.Status, r.Size, r.Err)
	}
	if r.Took > 4*time.Second {
		t.Errorf("GET of a range near the end took %v; want the range before what comes before it", r.Took)
	}
}

func TestBadRequestsGetTheCodeOfTheSpecification(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1})
	n := f.Nodes[0]
	const good = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		path, code string
		status     int
		header     []string
	}{
		{"library/app/blobs/sha256:12", "DIGEST_INVALID", 400, nil},
		{"library/app/blobs/md5:0123456789abcdef0123456789abcdef", "DIGEST_INVALID", 400, nil},
		{"library/app/blobs/SHA256:" + good[7:], "DIGEST_INVALID", 400, nil},
		{"library/app/manifests/sha256:12", "DIGEST_INVALID", 400, nil},
		{"library/app/manifests/-bad", "TAG_INVALID", 400, nil},
		{"library/app/manifests/" + string(bytes.Repeat([]byte("a"), 129)), "TAG_INVALID", 400, nil},
		{"Library/App/blobs/" + good, "NAME_INVALID", 400, nil},
		{"library/a__-b/blobs/" + good, "NAME_INVALID", 400, nil},
		{"library/%2e%2e/blobs/" + good, "", 400, nil},
		{"library/app%2fother/blobs/" + good, "", 400, nil},
		{"library/app%00/blobs/" + good, "", 400, nil},
		{"library/app/blobs/" + good + "?ns=quay.io", "NAME_UNKNOWN", 404, nil},
		{"library/app/blobs/" + good + "?ns=http://evil", "NAME_INVALID", 400, nil},
		{"ghcr.io/org/app/blobs/" + good, "NAME_UNKNOWN", 404, nil},
		{"library/app/blobs/" + good, "BLOB_UNKNOWN", 404, nil},
		{"library/app/manifests/" + good, "MANIFEST_UNKNOWN", 404, nil},
		{"library/app/manifests/absent", "MANIFEST_UNKNOWN", 404, nil},
	} {
		r := n.Ask(t.Context(), http.MethodGet, c.path, c.header...)
		if r.Status != c.status || !bytes.Contains(r.Body, []byte(c.code)) {
			t.Errorf("GET %s = %d %s; want %d %s", c.path, r.Status, r.Body, c.status, c.code)
		}
	}
	if r := n.Ask(t.Context(), http.MethodGet, "", "Host", "evil.example"); r.Status != http.StatusOK {
		t.Errorf("GET /v2/ = %d; want 200", r.Status)
	}
}

func TestWhatTheFarmCannotServeIsAnsweredSoThatTheClientGoesElsewhere(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	large := append([]byte(`{"annotations":{"a":"`), bytes.Repeat([]byte("x"), oci.MaxManifestBytes)...)
	for tag, c := range map[string]struct {
		mediaType string
		raw       []byte
		statuses  []int
	}{
		"large":    {oci.MediaTypeOCIManifest, append(large, `"}}`...), []int{http.StatusRequestEntityTooLarge}},
		"schema-1": {oci.MediaTypeDockerSigned1, []byte(`{"schemaVersion":1}`), []int{http.StatusNotFound}},
	} {
		if _, err := f.Hub.PutManifest("library/odd", tag, c.mediaType, c.raw); err != nil {
			t.Fatal(err)
		}
		for _, n := range f.Nodes {
			for range 2 {
				r := n.Ask(t.Context(), http.MethodGet, "library/odd/manifests/"+tag, acceptAll...)
				if !slices.Contains(c.statuses, r.Status) || r.Took > 5*time.Second {
					t.Errorf("GET of a manifest that is %s at %s = %d %.200s after %v; want %v", tag, n.ID(), r.Status, r.Body, r.Took, c.statuses)
				}
			}
		}
	}
	if err := f.Nodes[0].Pull(t.Context(), "library/odd", put(t, f, 320, 1000, "library/odd")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAManifestThatDoesNotMatchItsDigestIsNotServed(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	i := image(t, f, 321, "library/bent", "latest", mib)
	fault := f.Hub.MustFault(hub.Fault{Kind: hub.Manifest, Method: http.MethodGet, Do: hub.FlipAt, At: 30})
	for _, n := range f.Nodes {
		for _, reference := range []string{i.Digest.String(), "latest"} {
			r := n.Ask(t.Context(), http.MethodGet, "library/bent/manifests/"+reference, acceptAll...)
			if r.Status == http.StatusOK || r.Status == http.StatusNotFound || r.Status == http.StatusInternalServerError {
				t.Errorf("GET of %s, whose bytes are wrong, at %s = %d %.200s; want 502 or 503", reference, n.ID(), r.Status, r.Body)
			}
		}
	}
	if err := f.Hub.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		f.Eventually("the right manifest", func() bool {
			return bytes.Equal(n.Ask(t.Context(), http.MethodGet, "library/bent/manifests/latest", acceptAll...).Body, i.Raw)
		})
	}
}
