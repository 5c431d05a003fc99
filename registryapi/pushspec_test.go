package registryapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

func TestNoManifestHasATagThatIsNone(t *testing.T) {
	p, _ := newPusher(t)
	image := imageOf(oci.MediaTypeOCIManifest, p.blob([]byte("{}")))
	p.manifest(201, "1", oci.MediaTypeOCIManifest, image)
	const tag = "/manifests/.INVALID_MANIFEST_NAME"
	for _, method := range []string{"GET", "DELETE"} {
		wantError(t, method, p.do(method, tag, nil), 404, "MANIFEST_UNKNOWN")
	}
	p.want(404, "HEAD", tag, nil)
	p.manifest(400, ".INVALID_MANIFEST_NAME", oci.MediaTypeOCIManifest, image)

	upstream := p
	upstream.repo = "library/app"
	wantError(t, "GET of an upstream's", upstream.do("GET", tag, nil), 400, "TAG_INVALID")
	wantError(t, "DELETE of an upstream's", upstream.do("DELETE", tag, nil), 400, "TAG_INVALID")
}

func TestParametersOfAContentTypeAreIgnored(t *testing.T) {
	p, _ := newPusher(t)
	image := imageOf(oci.MediaTypeOCIManifest, p.blob([]byte("{}")))
	for _, parameters := range []string{"; charset=utf-8", "; charset", ";", "; a=b; a=c"} {
		raw, err := json.Marshal(image)
		if err != nil {
			t.Fatal(err)
		}
		got := p.do("PUT", "/manifests/1", bytes.NewReader(raw), "Content-Type", oci.MediaTypeOCIManifest+parameters)
		if got.status != 201 {
			t.Errorf("PUT with Content-Type %q: %d %s; want 201", oci.MediaTypeOCIManifest+parameters, got.status, got.body)
		}
		if back := p.want(200, "GET", "/manifests/1", nil); back.header.Get("Content-Type") != oci.MediaTypeOCIManifest {
			t.Errorf("GET: Content-Type %q; want it without parameters", back.header.Get("Content-Type"))
		}
	}
}

func TestAPageOfNoTagsIsEmpty(t *testing.T) {
	p, _ := newPusher(t)
	wantError(t, "of no repository", p.do("GET", "/tags/list?n=0", nil), 404, "NAME_UNKNOWN")
	p.manifest(201, "1", oci.MediaTypeOCIManifest, imageOf(oci.MediaTypeOCIManifest, p.blob([]byte("{}"))))
	got := p.want(200, "GET", "/tags/list?n=0", nil)
	if want := `{"name":"` + p.repo + `","tags":[]}`; got.body != want || got.header.Get("Link") != "" {
		t.Errorf("GET of no tags: %s, Link %q; want %s and no Link", got.body, got.header.Get("Link"), want)
	}
}

// TestARefusedBodyDoesNotCostItsAnswer sends as clients do that look for an answer only after all of the body.
func TestARefusedBodyDoesNotCostItsAnswer(t *testing.T) {
	p, _ := newPusher(t)
	upload := p.start()
	for _, c := range []struct {
		what, head string
		size       int64
		status     int
	}{
		{"a manifest that is too large", "PUT /v2/" + p.repo + "/manifests/1", oci.MaxManifestBytes + 1, http.StatusRequestEntityTooLarge},
		{"a part out of order", "PATCH " + upload, 12 << 20, http.StatusRequestedRangeNotSatisfiable},
		{"a name that is not hosted", "POST /v2/library/app/blobs/uploads/", 12 << 20, http.StatusForbidden},
	} {
		conn, err := net.Dial("tcp", p.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Range: 1-%d\r\nContent-Length: %d\r\n\r\n",
			c.head, p.server.Listener.Addr(), oci.MediaTypeOCIManifest, c.size, c.size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, c.size)); err != nil {
			t.Errorf("%s: sending it: %v; want that it is taken", c.what, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: reading the answer: %v; want %d", c.what, err, c.status)
			continue
		}
		if resp.StatusCode != c.status || !resp.Close {
			t.Errorf("%s: %d, close %v; want %d and that the connection ends", c.what, resp.StatusCode, resp.Close, c.status)
		}
		_ = resp.Body.Close()
	}
}
