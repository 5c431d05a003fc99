package registryapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

func TestManifestsOfEveryTypeArePushedListedAndDeleted(t *testing.T) {
	p, _ := newPusher(t)
	config, layer := p.blob([]byte("{}")), p.blob(someBytes(200))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	put := func(ref, mediaType string, content any) oci.Descriptor {
		t.Helper()
		d, raw, got := p.manifest(201, ref, mediaType, content)
		if got.header.Get("Docker-Content-Digest") != d.String() {
			t.Errorf("PUT: %v; want Docker-Content-Digest %s", got.header, d)
		}
		for _, path := range []string{got.header.Get("Location"), "/manifests/" + d.String()} {
			back := p.want(200, "GET", path, nil)
			if back.body != string(raw) || back.header.Get("Content-Type") != mediaType || back.header.Get("Docker-Content-Digest") != d.String() {
				t.Errorf("GET %s: %v %s; want it unchanged", path, back.header, back.body)
			}
		}
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
	}
	ociImage := put("oci", oci.MediaTypeOCIManifest, imageOf(oci.MediaTypeOCIManifest, config, layer))
	dockerImage := put("docker", oci.MediaTypeDockerManifest, imageOf(oci.MediaTypeDockerManifest, config, layer))
	put("index", oci.MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []oci.Descriptor{ociImage}})
	put("list", oci.MediaTypeDockerList, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeDockerList, "manifests": []oci.Descriptor{dockerImage}})
	put("DIGEST", oci.MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "manifests": []oci.Descriptor{}})

	sha512 := imageOf(oci.MediaTypeOCIManifest, config)
	raw, _ := json.Marshal(sha512)
	d := oci.FromBytes(oci.SHA512, raw)
	if got := p.want(201, "PUT", "/manifests/"+d.String(), bytes.NewReader(raw), "Content-Type", oci.MediaTypeOCIManifest); got.header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("PUT by sha512: %v; want %s", got.header, d)
	}
	p.want(200, "HEAD", "/manifests/"+d.String(), nil)

	if got := p.want(200, "GET", "/tags/list", nil).body; got != `{"name":"`+p.repo+`","tags":["docker","index","list","oci"]}` {
		t.Errorf("tags/list = %s; want all in order", got)
	}
	var seen []string
	for path, pages := "/tags/list?n=1", 0; path != "" && pages < 10; pages++ {
		got := p.want(200, "GET", path, nil)
		var list struct{ Tags []string }
		_ = json.Unmarshal([]byte(got.body), &list)
		seen = append(seen, list.Tags...)
		path, _, _ = strings.Cut(strings.TrimPrefix(got.header.Get("Link"), "<"), ">")
	}
	if strings.Join(seen, " ") != "docker index list oci" {
		t.Errorf("paged tags: %v; want all once", seen)
	}
	if got := p.want(200, "GET", "/tags/list?last=index&n=100", nil).body; !strings.Contains(got, `["list","oci"]`) {
		t.Errorf("tags after index: %s; want list, oci", got)
	}

	p.want(202, "DELETE", "/manifests/oci", nil)
	wantError(t, "deleted tag", p.do("GET", "/manifests/oci", nil), 404, "MANIFEST_UNKNOWN")
	p.want(200, "GET", "/manifests/"+ociImage.Digest.String(), nil)
	p.want(202, "DELETE", "/manifests/"+dockerImage.Digest.String(), nil)
	wantError(t, "tag of a deleted manifest", p.do("GET", "/manifests/docker", nil), 404, "MANIFEST_UNKNOWN")
	wantError(t, "DELETE twice", p.do("DELETE", "/manifests/oci", nil), 404, "MANIFEST_UNKNOWN")
	p.want(202, "DELETE", "/blobs/"+layer.Digest.String(), nil)
	wantError(t, "deleted blob", p.do("GET", "/blobs/"+layer.Digest.String(), nil), 404, "BLOB_UNKNOWN")
}

func TestOneManifestIsGivenManyTags(t *testing.T) {
	p, _ := newPusher(t)
	image := imageOf(oci.MediaTypeOCIManifest, p.blob([]byte("{}")))
	_, raw, got := p.manifest(201, "DIGEST?tag=a&tag=b&tag=c", oci.MediaTypeOCIManifest, image)
	if tags := got.header.Values("OCI-Tag"); strings.Join(tags, " ") != "a b c" {
		t.Errorf("OCI-Tag: %v; want a b c", tags)
	}
	for _, tag := range []string{"a", "b", "c"} {
		if back := p.want(200, "GET", "/manifests/"+tag, nil); back.body != string(raw) {
			t.Errorf("GET %s: %s; want the manifest", tag, back.body)
		}
	}
	p.manifest(400, "DIGEST?tag=-", oci.MediaTypeOCIManifest, image)
	p.manifest(400, "a?tag=b", oci.MediaTypeOCIManifest, image)
	p.manifest(414, "DIGEST?"+strings.Repeat("tag=x&", 101), oci.MediaTypeOCIManifest, image)
}

func TestReferrersAreListedAndFiltered(t *testing.T) {
	p, _ := newPusher(t)
	config := p.blob([]byte("{}"))
	config.MediaType = "application/vnd.example.config"
	type index struct {
		SchemaVersion int
		MediaType     string
		Manifests     []struct {
			Digest, ArtifactType, MediaType string
			Size                            int64
			Annotations                     map[string]string
		}
	}
	referrers := func(d oci.Digest, query string) (index, answer) {
		t.Helper()
		got := p.want(200, "GET", "/referrers/"+d.String()+query, nil)
		var x index
		if err := json.Unmarshal([]byte(got.body), &x); err != nil || x.SchemaVersion != 2 || x.MediaType != oci.MediaTypeOCIIndex ||
			x.Manifests == nil || got.header.Get("Content-Type") != oci.MediaTypeOCIIndex {
			t.Fatalf("referrers: %s; want an OCI index", got.body)
		}
		return x, got
	}
	subject := oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: oci.FromBytes(oci.SHA256, []byte("missing content")), Size: 123}
	if x, _ := referrers(subject.Digest, ""); len(x.Manifests) != 0 {
		t.Errorf("referrers of nothing: %v; want none", x)
	}
	plain := imageOf(oci.MediaTypeOCIManifest, config)
	plain["subject"] = subject
	d1, _, got := p.manifest(201, "DIGEST", oci.MediaTypeOCIManifest, plain)
	if got.header.Get("OCI-Subject") != subject.Digest.String() {
		t.Errorf("OCI-Subject %q; want %s", got.header.Get("OCI-Subject"), subject.Digest)
	}
	typed := imageOf(oci.MediaTypeOCIManifest, config)
	typed["subject"], typed["artifactType"], typed["annotations"] = subject, "application/vnd.example.sbom", map[string]string{"k": "v"}
	d2, raw2, _ := p.manifest(201, "DIGEST", oci.MediaTypeOCIManifest, typed)
	if x, got := referrers(subject.Digest, ""); len(x.Manifests) != 2 || got.header.Get("OCI-Filters-Applied") != "" {
		t.Errorf("referrers: %s; want two, unfiltered", got.body)
	}
	x, got := referrers(subject.Digest, "?artifactType=application/vnd.example.sbom")
	if len(x.Manifests) != 1 || x.Manifests[0].Digest != d2.String() || x.Manifests[0].Annotations["k"] != "v" || x.Manifests[0].Size != int64(len(raw2)) ||
		got.header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Errorf("filtered: %s, %v; want %s alone, and to be told so", got.body, got.header, d2)
	}
	if x, _ := referrers(subject.Digest, "?artifactType=application/vnd.example.config"); len(x.Manifests) != 1 || x.Manifests[0].Digest != d1.String() {
		t.Errorf("filtered by the config's type: %v; want %s", x, d1)
	}
	p.want(202, "DELETE", "/manifests/"+d2.String(), nil)
	if x, _ := referrers(subject.Digest, ""); len(x.Manifests) != 1 {
		t.Errorf("referrers after DELETE: %v; want one", x)
	}
	wantError(t, "referrers of what is no digest", p.do("GET", "/referrers/x", nil), 400, "DIGEST_INVALID")
}

func TestBadManifestsAreRefused(t *testing.T) {
	p, _ := newPusher(t)
	config := p.blob([]byte("{}"))
	image := imageOf(oci.MediaTypeOCIManifest, config)
	put := func(what string, status int, code, ref, mediaType string, raw []byte) {
		t.Helper()
		wantError(t, what, p.do("PUT", "/manifests/"+ref, bytes.NewReader(raw), "Content-Type", mediaType), status, code)
	}
	raw, _ := json.Marshal(image)
	padded := append(bytes.Clone(raw), "  "...)
	put("another mediaType inside", 400, "MANIFEST_INVALID", "x", oci.MediaTypeDockerManifest, raw)
	put("wrong digest", 400, "DIGEST_INVALID", oci.FromBytes(oci.SHA256, raw).String(), oci.MediaTypeOCIManifest, padded)
	put("no digest", 400, "DIGEST_INVALID", "sha256:baddigeststring", oci.MediaTypeOCIManifest, raw)
	put("no tag", 400, "TAG_INVALID", ".x", oci.MediaTypeOCIManifest, raw)
	put("no JSON", 400, "MANIFEST_INVALID", "x", oci.MediaTypeOCIManifest, []byte("{"))
	put("schema 1", 400, "MANIFEST_INVALID", "x", oci.MediaTypeDockerSigned1, []byte("{}"))
	put("unknown type", 400, "MANIFEST_INVALID", "x", "text/plain", []byte(`{"schemaVersion":2}`))
	put("no type", 400, "MANIFEST_INVALID", "x", "", []byte(`{"schemaVersion":2}`))
	put("no version", 400, "MANIFEST_INVALID", "x", oci.MediaTypeOCIIndex, []byte(`{}`))
	put("too large", 413, "SIZE_INVALID", "x", oci.MediaTypeOCIManifest, make([]byte, oci.MaxManifestBytes+1))
	put("a million descriptors", 400, "MANIFEST_INVALID", "x", oci.MediaTypeOCIIndex,
		[]byte(`{"schemaVersion":2,"manifests":[`+strings.Repeat("{},", 1_000_000)+`{}]}`))
	put("a million depths", 400, "MANIFEST_INVALID", "x", oci.MediaTypeOCIIndex,
		[]byte(`{"schemaVersion":2,"x":`+strings.Repeat("[", 1_000_000)+strings.Repeat("]", 1_000_000)+`}`))
	many := make([]oci.Descriptor, 10_001)
	for i := range many {
		many[i] = config
	}
	raw, _ = json.Marshal(imageOf(oci.MediaTypeOCIManifest, config, many...))
	put("more descriptors than there may be", 400, "MANIFEST_INVALID", "x", oci.MediaTypeOCIManifest, raw)

	gone := oci.Descriptor{MediaType: "x", Digest: oci.FromBytes(oci.SHA256, []byte("gone")), Size: 4}
	raw, _ = json.Marshal(imageOf(oci.MediaTypeOCIManifest, config, gone))
	put("missing blob", 404, "MANIFEST_BLOB_UNKNOWN", "x", oci.MediaTypeOCIManifest, raw)
	gone.URLs = []string{"https://example.com/layer"}
	p.manifest(201, "foreign", oci.MediaTypeOCIManifest, imageOf(oci.MediaTypeOCIManifest, config, gone))
	wantError(t, "what was refused", p.do("GET", "/manifests/x", nil), 404, "MANIFEST_UNKNOWN")
}
