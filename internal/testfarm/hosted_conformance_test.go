package testfarm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

// A round gives the nodes of a farm in turn: what one was asked for, another is asked about.
type round struct {
	nodes []*testfarm.Node
	at    int
}

func (r *round) next() *testfarm.Node {
	r.at++
	return r.nodes[r.at%len(r.nodes)]
}

// conformance is one repository and what was pushed to it.
type conformance struct {
	hosted
	round *round
}

// other is the repository at the next node.
func (c conformance) other() hosted { return c.hosted.at(c.round.next()) }

// TestHostedRepositoriesConformToTheSpecification goes through what the OCI distribution specification asks for, in the
// order of the official suite.
func TestHostedRepositoriesConformToTheSpecification(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3})
	r := &round{nodes: f.Nodes}
	for _, part := range []struct {
		name string
		do   func(conformance)
	}{
		{"pull", conformPull},
		{"push blobs", conformBlobs},
		{"push in parts", conformChunks},
		{"push by mount", conformMounts},
		{"push manifests", conformManifests},
		{"tags", conformTags},
		{"referrers", conformReferrers},
		{"deletes", conformDeletes},
	} {
		t.Run(part.name, func(t *testing.T) {
			name := "conform/" + strings.ReplaceAll(part.name, " ", "_")
			part.do(conformance{hostedAt(t, r.next(), name), r})
		})
	}
	if r := f.Nodes[1].Ask(t.Context(), http.MethodGet, ""); r.Status != http.StatusOK {
		t.Errorf("GET /v2/ = %d; want 200", r.Status)
	}
}

func conformPull(c conformance) {
	t := c.t
	c.refused(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/manifests/1", nil)
	m := c.small(2000, "1")
	layer := randomBytes(2000, 700)
	blob := "/blobs/" + sum256(layer).String()
	nothing := sum256([]byte("nothing")).String()
	c.other().want(http.StatusNotFound, http.MethodHead, "/blobs/"+nothing, nil)
	c.other().refused(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodGet, "/blobs/"+nothing, nil)
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		r := c.other().want(http.StatusOK, method, blob, nil)
		if r.Header.Get("Docker-Content-Digest") != sum256(layer).String() || r.Header.Get("Content-Length") != "700" {
			t.Errorf("%s of a blob: %v; want its digest and length", method, r.Header)
		}
		if method == http.MethodGet && !bytes.Equal(r.Body, layer) {
			t.Errorf("GET of a blob: %d bytes; want those that were pushed", len(r.Body))
		}
	}
	r := c.other().want(http.StatusPartialContent, http.MethodGet, blob, nil, "Range", "bytes=10-19")
	if !bytes.Equal(r.Body, layer[10:20]) || r.Header.Get("Content-Range") != "bytes 10-19/700" {
		t.Errorf("GET of a range: %v, %d bytes; want bytes 10-19/700", r.Header, len(r.Body))
	}
	c.other().want(http.StatusRequestedRangeNotSatisfiable, http.MethodGet, blob, nil, "Range", "bytes=700-")
	for _, ref := range []string{"nothere", nothing} {
		c.other().want(http.StatusNotFound, http.MethodHead, "/manifests/"+ref, nil)
		c.other().refused(http.StatusNotFound, "MANIFEST_UNKNOWN", http.MethodGet, "/manifests/"+ref, nil)
	}
	for _, ref := range []string{"1", m.digest.String()} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			r := c.other().want(http.StatusOK, method, "/manifests/"+ref, nil, "Accept", m.mediaType)
			if r.Header.Get("Docker-Content-Digest") != m.digest.String() || r.Header.Get("Content-Type") != m.mediaType ||
				r.Header.Get("Content-Length") != strconv.Itoa(len(m.raw)) {
				t.Errorf("%s of manifest %s: %v; want its digest, length and media type", method, ref, r.Header)
			}
			if method == http.MethodGet && !bytes.Equal(r.Body, m.raw) {
				t.Errorf("GET of manifest %s: %s; want what was pushed", ref, r.Body)
			}
		}
	}
	c.other().refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodGet, "/blobs/sha256:totallywrong", nil)
}

// created checks the answer to a push of a blob, and reads it at another node by the Location.
func (c conformance) created(r testfarm.Reply, data []byte) {
	c.t.Helper()
	d := sum256(data)
	location := r.Header.Get("Location")
	if location != "/v2/"+c.name+"/blobs/"+d.String() || r.Header.Get("Docker-Content-Digest") != d.String() {
		c.t.Errorf("push of a blob: %v; want its Location and its digest", r.Header)
	}
	if r := c.other().want(http.StatusOK, http.MethodGet, location, nil); "sha256:"+r.Sum != d.String() {
		c.t.Errorf("GET of what was pushed: %d other bytes", r.Size)
	}
}

func conformBlobs(c conformance) {
	data := randomBytes(2100, 3000)
	d := sum256(data)
	r := c.want(http.StatusCreated, http.MethodPost, "/blobs/uploads/?digest="+d.String(), bytes.NewReader(data), "Content-Type", octets)
	c.created(r, data)

	data = randomBytes(2101, 2*mib+1)
	d = sum256(data)
	r = c.want(http.StatusCreated, http.MethodPut, digested(c.start(), d), bytes.NewReader(data), "Content-Type", octets)
	c.created(r, data)

	data = randomBytes(2102, 2*mib+3) // streamed: no length, no Content-Range
	d = sum256(data)
	r = c.want(http.StatusAccepted, http.MethodPatch, c.start(), struct{ io.Reader }{bytes.NewReader(data)}, "Content-Type", octets)
	if want := fmt.Sprintf("0-%d", len(data)-1); r.Header.Get("Range") != want {
		c.t.Errorf("streamed PATCH: Range %q; want %q", r.Header.Get("Range"), want)
	}
	c.created(c.want(http.StatusCreated, http.MethodPut, digested(r.Header.Get("Location"), d), nil), data)

	c.created(c.want(http.StatusCreated, http.MethodPut, digested(c.start(), sum256(nil)), nil), nil)

	for _, wrong := range []oci.Digest{sum256([]byte("wrong")), oci.FromBytes(oci.SHA512, []byte("wrong"))} {
		data = randomBytes(2103, 100)
		c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, digested(c.start(), wrong), bytes.NewReader(data))
		c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPost, "/blobs/uploads/?digest="+wrong.String(), bytes.NewReader(data))
		for _, n := range c.round.nodes {
			c.at(n).want(http.StatusNotFound, http.MethodGet, "/blobs/"+wrong.String(), nil)
			c.at(n).want(http.StatusNotFound, http.MethodGet, "/blobs/"+sum256(data).String(), nil)
		}
	}
	c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, c.start(), bytes.NewReader(data))
	location := c.start()
	c.want(http.StatusNoContent, http.MethodDelete, location, nil)
	c.refused(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", http.MethodGet, location, nil)
}

func conformChunks(c conformance) {
	data := randomBytes(2200, 3000)
	d := sum256(data)
	location := c.start()
	outOfOrder := func(location, span string, part []byte) {
		c.t.Helper()
		r := c.refused(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", http.MethodPatch, location,
			bytes.NewReader(part), "Content-Range", span, "Content-Type", octets)
		if r.Header.Get("Location") == "" || r.Header.Get("Range") == "" {
			c.t.Errorf("416: %v; want Location and Range", r.Header)
		}
	}
	part := func(first, last int) {
		c.t.Helper()
		r := c.want(http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[first:last+1]),
			"Content-Range", fmt.Sprintf("%d-%d", first, last), "Content-Type", octets)
		if want := fmt.Sprintf("0-%d", last); r.Header.Get("Range") != want {
			c.t.Errorf("PATCH: Range %q; want %q", r.Header.Get("Range"), want)
		}
		location = r.Header.Get("Location")
	}
	outOfOrder(location, "1000-1999", data[1000:2000])
	part(0, 999)
	outOfOrder(location, "0-999", data[:1000])
	outOfOrder(location, "2000-2999", data[2000:])
	r := c.want(http.StatusNoContent, http.MethodGet, location, nil)
	if r.Header.Get("Range") != "0-999" || r.Header.Get("Location") == "" {
		c.t.Errorf("GET of an upload: %v; want Range 0-999 and a Location", r.Header)
	}
	part(1000, 1999)
	r = c.want(http.StatusCreated, http.MethodPut, digested(location, d), bytes.NewReader(data[2000:]), "Content-Range", "2000-2999", "Content-Type", octets)
	c.created(r, data)
}

func conformMounts(c conformance) {
	from := hostedAt(c.t, c.round.next(), "conform/from")
	data := randomBytes(2300, 5000)
	d := from.blob(data).Digest
	r := c.want(http.StatusCreated, http.MethodPost, "/blobs/uploads/?mount="+d.String()+"&from="+from.name, nil)
	c.created(r, data)
	missing := sum256([]byte("missing"))
	for _, query := range []string{
		"?mount=" + missing.String() + "&from=" + from.name, "?mount=" + missing.String(), "?mount=" + d.String() + "&from=farm.internal/conform/nowhere",
	} {
		r := c.want(http.StatusAccepted, http.MethodPost, "/blobs/uploads/"+query, nil)
		sent := c.want(http.StatusCreated, http.MethodPut, digested(r.Header.Get("Location"), d), bytes.NewReader(data))
		c.created(sent, data)
	}
}

func conformManifests(c conformance) {
	config := c.blob([]byte(`{"architecture":"arm64","os":"linux"}`))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	layer := c.blob(randomBytes(2400, 900))
	image := func(mediaType string, change int) document {
		return manifestOf(c.t, mediaType, map[string]any{
			"config": config, "layers": []oci.Descriptor{layer}, "annotations": map[string]string{"change": strconv.Itoa(change)},
		})
	}
	var children []oci.Descriptor
	for i, mediaType := range []string{oci.MediaTypeOCIManifest, oci.MediaTypeDockerManifest} {
		m := image(mediaType, i)
		c.put(m, "")
		c.put(m, fmt.Sprintf("tag%d", i))
		c.readBack(m, fmt.Sprintf("tag%d", i))
		children = append(children, oci.Descriptor{MediaType: mediaType, Digest: m.digest, Size: int64(len(m.raw))})
	}
	for i, mediaType := range []string{oci.MediaTypeOCIIndex, oci.MediaTypeDockerList} {
		m := manifestOf(c.t, mediaType, map[string]any{"manifests": children})
		c.put(m, fmt.Sprintf("index%d", i))
		c.readBack(m, fmt.Sprintf("index%d", i))
	}
	empty := manifestOf(c.t, oci.MediaTypeOCIManifest, map[string]any{"config": config, "layers": []oci.Descriptor{}})
	c.put(empty, "empty")
	c.readBack(empty, "empty")

	m := image(oci.MediaTypeOCIManifest, 10)
	r := c.want(http.StatusCreated, http.MethodPut, "/manifests/"+m.digest.String()+"?tag=one&tag=two", bytes.NewReader(m.raw), "Content-Type", m.mediaType)
	if got := r.Header.Values("OCI-Tag"); !slices.Equal(got, []string{"one", "two"}) {
		c.t.Errorf("PUT with tags: OCI-Tag %q; want one and two", got)
	}
	c.readBack(m, "one")
	c.readBack(m, "two")

	wrong := map[string]any{"config": config, "layers": []oci.Descriptor{{MediaType: octets, Digest: sum256([]byte("missing")), Size: 7}}}
	lacking := manifestOf(c.t, oci.MediaTypeOCIManifest, wrong)
	index := manifestOf(c.t, oci.MediaTypeOCIIndex, map[string]any{"manifests": []oci.Descriptor{{MediaType: oci.MediaTypeOCIManifest, Digest: sum256([]byte("missing")), Size: 7}}})
	for _, bad := range []struct {
		status      int
		code        string
		contentType string
		raw         []byte
	}{
		{404, "MANIFEST_BLOB_UNKNOWN", lacking.mediaType, lacking.raw},
		{404, "MANIFEST_BLOB_UNKNOWN", index.mediaType, index.raw},
		{400, "MANIFEST_INVALID", oci.MediaTypeOCIIndex, m.raw},
		{400, "MANIFEST_INVALID", oci.MediaTypeOCIManifest, []byte("{")},
		{400, "MANIFEST_INVALID", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1}`)},
	} {
		c.refused(bad.status, bad.code, http.MethodPut, "/manifests/bad", bytes.NewReader(bad.raw), "Content-Type", bad.contentType)
		c.other().want(http.StatusNotFound, http.MethodGet, "/manifests/bad", nil, acceptAll...)
	}
	c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodPut, "/manifests/"+layer.Digest.String(), bytes.NewReader(m.raw), "Content-Type", m.mediaType)
}

// readBack gets a manifest at another node, by tag and by digest.
func (c conformance) readBack(m document, tag string) {
	c.t.Helper()
	for _, ref := range []string{tag, m.digest.String()} {
		r := c.other().want(http.StatusOK, http.MethodGet, "/manifests/"+ref, nil, acceptAll...)
		if !bytes.Equal(r.Body, m.raw) || r.Header.Get("Content-Type") != m.mediaType {
			c.t.Errorf("GET of %s: %s %s; want what was pushed as %s", ref, r.Header.Get("Content-Type"), r.Body, m.mediaType)
		}
	}
}

func conformTags(c conformance) {
	c.refused(http.StatusNotFound, "NAME_UNKNOWN", http.MethodGet, "/tags/list", nil)
	m := c.small(2500, "d")
	all := []string{"a", "b", "c", "d", "test0", "test1"}
	for _, tag := range all {
		c.put(m, tag)
	}
	list := func(path string, want ...string) testfarm.Reply {
		c.t.Helper()
		r := c.other().want(http.StatusOK, http.MethodGet, path, nil)
		var got struct {
			Name string
			Tags []string
		}
		if err := json.Unmarshal(r.Body, &got); err != nil || got.Name != c.name || got.Tags == nil || !slices.Equal(got.Tags, want) {
			c.t.Errorf("GET %s = %s; want %q", path, r.Body, want)
		}
		return r
	}
	if r := list("/tags/list", all...); r.Header.Get("Link") != "" {
		c.t.Errorf("the whole list has a Link: %q", r.Header.Get("Link"))
	}
	list("/tags/list?n=0")
	list("/tags/list?last=c", "d", "test0", "test1")
	list("/tags/list?n=2&last=b", "c", "d")
	list("/tags/list?last=zzz")
	list("/tags/list?n=100", all...)
	var walked []string
	for next := "/v2/" + c.name + "/tags/list?n=4"; next != ""; {
		r := c.other().want(http.StatusOK, http.MethodGet, next, nil)
		var page struct{ Tags []string }
		if err := json.Unmarshal(r.Body, &page); err != nil || len(page.Tags) > 4 {
			c.t.Fatalf("page: %s, %v; want at most 4 tags", r.Body, err)
		}
		walked = append(walked, page.Tags...)
		link := r.Header.Get("Link")
		if next = ""; link != "" {
			var ok bool
			if next, ok = strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`); !ok {
				c.t.Fatalf("Link %q; want one to the next page", link)
			}
		}
	}
	if !slices.Equal(walked, all) {
		c.t.Errorf("page by page: %q; want %q", walked, all)
	}
}

func conformReferrers(c conformance) {
	empty := c.blob([]byte("{}"))
	empty.MediaType = "application/vnd.oci.empty.v1+json"
	subject := c.small(2600, "subject")
	missing := manifestOf(c.t, oci.MediaTypeOCIManifest, map[string]any{"config": empty, "layers": []oci.Descriptor{empty}})
	artifact := func(subject document, artifactType string, config oci.Descriptor) document {
		content := map[string]any{
			"config": config, "layers": []oci.Descriptor{empty}, "annotations": map[string]string{"for": subject.digest.String()},
			"subject": oci.Descriptor{MediaType: subject.mediaType, Digest: subject.digest, Size: int64(len(subject.raw))},
		}
		if artifactType != "" {
			content["artifactType"] = artifactType
		}
		return manifestOf(c.t, oci.MediaTypeOCIManifest, content)
	}
	typed := empty
	typed.MediaType = "application/vnd.food.stand" // stands in for the artifact type that is not there
	sbom, signature, plain := artifact(subject, "application/vnd.sbom", empty), artifact(subject, "application/vnd.signature", empty), artifact(subject, "", typed)
	index := manifestOf(c.t, oci.MediaTypeOCIIndex, map[string]any{
		"manifests": []oci.Descriptor{}, "artifactType": "application/vnd.sbom",
		"subject": oci.Descriptor{MediaType: subject.mediaType, Digest: subject.digest, Size: int64(len(subject.raw))},
	})
	early := artifact(missing, "application/vnd.early", empty) // its subject comes later, or never
	c.referrers(subject.digest, "")
	for _, m := range []document{sbom, signature, plain, index, early} {
		r := c.put(m, "")
		if want := subject.digest.String(); m.digest != early.digest && r.Header.Get("OCI-Subject") != want {
			c.t.Errorf("PUT with a subject: OCI-Subject %q; want %s", r.Header.Get("OCI-Subject"), want)
		}
	}
	c.referrers(subject.digest, "", sbom, signature, plain, index)
	c.referrers(subject.digest, "application/vnd.sbom", sbom, index)
	c.referrers(subject.digest, "application/vnd.food.stand", plain)
	c.referrers(subject.digest, "application/vnd.none")
	c.referrers(missing.digest, "", early)
	c.put(missing, "")
	c.referrers(missing.digest, "", early)
	c.referrers(sum256([]byte("never seen")), "")
	c.want(http.StatusAccepted, http.MethodDelete, "/manifests/"+sbom.digest.String(), nil)
	c.referrers(subject.digest, "application/vnd.sbom", index)
	c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodGet, "/referrers/none", nil)
}

// referrers asks another node who points at d.
func (c conformance) referrers(d oci.Digest, artifactType string, want ...document) {
	c.t.Helper()
	path, filters := "/referrers/"+d.String(), ""
	if artifactType != "" {
		path, filters = path+"?artifactType="+artifactType, "artifactType"
	}
	r := c.other().want(http.StatusOK, http.MethodGet, path, nil)
	var got struct {
		SchemaVersion int
		MediaType     string
		Manifests     []struct {
			MediaType, ArtifactType, Digest string
			Size                            int
			Annotations                     map[string]string
		}
	}
	err := json.Unmarshal(r.Body, &got)
	if err != nil || got.SchemaVersion != 2 || got.MediaType != oci.MediaTypeOCIIndex || got.Manifests == nil ||
		r.Header.Get("Content-Type") != oci.MediaTypeOCIIndex || r.Header.Get("OCI-Filters-Applied") != filters {
		c.t.Errorf("GET %s: %v %s; want an index, OCI-Filters-Applied %q", path, r.Header, r.Body, filters)
	}
	var digests, wanted []string
	for _, m := range got.Manifests {
		digests = append(digests, m.Digest)
		if artifactType != "" && m.ArtifactType != artifactType || m.Size == 0 {
			c.t.Errorf("GET %s: %+v; want its size and the type", path, m)
		}
		if m.MediaType == oci.MediaTypeOCIManifest && m.Annotations["for"] != d.String() {
			c.t.Errorf("GET %s: annotations %v; want those of the manifest", path, m.Annotations)
		}
	}
	for _, m := range want {
		wanted = append(wanted, m.digest.String())
	}
	slices.Sort(digests)
	slices.Sort(wanted)
	if !slices.Equal(digests, wanted) {
		c.t.Errorf("GET %s: %q; want %q", path, digests, wanted)
	}
}

func conformDeletes(c conformance) {
	m := c.small(2700, "one")
	c.put(m, "two")
	c.want(http.StatusAccepted, http.MethodDelete, "/manifests/one", nil)
	c.other().want(http.StatusNotFound, http.MethodGet, "/manifests/one", nil, acceptAll...)
	c.other().want(http.StatusOK, http.MethodGet, "/manifests/two", nil, acceptAll...)
	c.want(http.StatusAccepted, http.MethodDelete, "/manifests/"+m.digest.String(), nil)
	c.other().want(http.StatusNotFound, http.MethodGet, "/manifests/"+m.digest.String(), nil, acceptAll...)
	if r := c.other().want(http.StatusOK, http.MethodGet, "/tags/list", nil); strings.Contains(string(r.Body), "two") {
		c.t.Errorf("tags after the manifest was deleted: %s; want none", r.Body)
	}
	blob := "/blobs/" + sum256(randomBytes(2700, 700)).String()
	c.other().want(http.StatusAccepted, http.MethodDelete, blob, nil)
	c.other().want(http.StatusNotFound, http.MethodHead, blob, nil)
	c.refused(http.StatusNotFound, "BLOB_UNKNOWN", http.MethodDelete, blob, nil)
	c.refused(http.StatusBadRequest, "DIGEST_INVALID", http.MethodDelete, "/blobs/sha256:x", nil)
}
