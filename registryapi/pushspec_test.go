package registryapi_test

import (
	"bytes"
	"encoding/json"
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
