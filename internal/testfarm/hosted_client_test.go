package testfarm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
)

const octets = "application/octet-stream"

// A hosted is a repository of the farm's own, as the clients of one node see it.
type hosted struct {
	t    *testing.T
	node *testfarm.Node
	name string // as in paths, with the prefix
}

func hostedAt(t *testing.T, n *testfarm.Node, path string) hosted {
	return hosted{t, n, "farm.internal/" + path}
}

// at is the same repository at another node.
func (h hosted) at(n *testfarm.Node) hosted { return hosted{h.t, n, h.name} }

// do sends a request to a path below the repository, or to a Location.
func (h hosted) do(method, path string, body io.Reader, header ...string) testfarm.Reply {
	h.t.Helper()
	if !strings.HasPrefix(path, "/v2/") {
		path = "/v2/" + h.name + path
	}
	r := h.node.Send(h.t.Context(), method, path, body, header...)
	if r.Err != nil {
		h.t.Fatalf("%s %s at %s: %d, %v", method, path, h.node.ID(), r.Status, r.Err)
	}
	return r
}

// want is do with a status that must come.
func (h hosted) want(status int, method, path string, body io.Reader, header ...string) testfarm.Reply {
	h.t.Helper()
	r := h.do(method, path, body, header...)
	if r.Status != status {
		h.t.Fatalf("%s %s at %s = %d %s; want %d", method, path, h.node.ID(), r.Status, r.Body, status)
	}
	return r
}

// refused is want with the code of an error.
func (h hosted) refused(status int, code, method, path string, body io.Reader, header ...string) testfarm.Reply {
	h.t.Helper()
	r := h.want(status, method, path, body, header...)
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(r.Body, &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Code != code || e.Errors[0].Message == "" {
		h.t.Errorf("%s %s at %s = %d %s; want the one error %s", method, path, h.node.ID(), r.Status, r.Body, code)
	}
	return r
}

// start begins an upload and returns its Location.
func (h hosted) start() string {
	h.t.Helper()
	r := h.want(http.StatusAccepted, http.MethodPost, "/blobs/uploads/", nil, "Content-Length", "0")
	location := r.Header.Get("Location")
	if location == "" || r.Header.Get("Range") != "0-0" || r.Header.Get("Docker-Upload-UUID") == "" {
		h.t.Fatalf("POST of an upload: %v; want Location, Range 0-0 and Docker-Upload-UUID", r.Header)
	}
	return location
}

// digested is a location with a digest.
func digested(location string, d oci.Digest) string {
	u, err := url.Parse(location)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	return u.String()
}

func sum256(data []byte) oci.Digest { return oci.FromBytes(oci.SHA256, data) }

// blob pushes a blob by POST and PUT.
func (h hosted) blob(data []byte) oci.Descriptor {
	h.t.Helper()
	d := sum256(data)
	h.want(http.StatusCreated, http.MethodPut, digested(h.start(), d), bytes.NewReader(data), "Content-Type", octets)
	return oci.Descriptor{MediaType: octets, Digest: d, Size: int64(len(data))}
}

// A document is a manifest as a client sends it.
type document struct {
	digest    oci.Digest
	mediaType string
	raw       []byte
}

func manifestOf(t *testing.T, mediaType string, content map[string]any) document {
	t.Helper()
	content["schemaVersion"], content["mediaType"] = 2, mediaType
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return document{sum256(raw), mediaType, raw}
}

// put pushes a manifest to a tag or, with "", to its digest.
func (h hosted) put(m document, tag string) testfarm.Reply {
	h.t.Helper()
	ref := tag
	if ref == "" {
		ref = m.digest.String()
	}
	r := h.want(http.StatusCreated, http.MethodPut, "/manifests/"+ref, bytes.NewReader(m.raw), "Content-Type", m.mediaType)
	if r.Header.Get("Docker-Content-Digest") != m.digest.String() || r.Header.Get("Location") == "" {
		h.t.Errorf("PUT of a manifest: %v; want Docker-Content-Digest %s and a Location", r.Header, m.digest)
	}
	return r
}

// small pushes an image of a few bytes, all its own, to a tag.
func (h hosted) small(seed uint64, tag string) document {
	h.t.Helper()
	config := h.blob(fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","seed":%d,"of":%q}`, seed, h.name))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	m := manifestOf(h.t, oci.MediaTypeOCIManifest, map[string]any{
		"config": config, "layers": []oci.Descriptor{h.blob(randomBytes(seed, 700))},
	})
	h.put(m, tag)
	return m
}

// retag pushes a manifest that differs from m in an annotation alone.
func (h hosted) retag(m document, tag string, change int) document {
	h.t.Helper()
	var content map[string]any
	if err := json.Unmarshal(m.raw, &content); err != nil {
		h.t.Fatal(err)
	}
	content["annotations"] = map[string]string{"change": strconv.Itoa(change)}
	next := manifestOf(h.t, m.mediaType, content)
	h.put(next, tag)
	return next
}

// resolved is the digest that a tag has, or "".
func (h hosted) resolved(tag string) string {
	h.t.Helper()
	r := h.do(http.MethodHead, "/manifests/"+tag, nil, acceptAll...)
	if r.Status == http.StatusNotFound {
		return ""
	}
	if r.Status != http.StatusOK {
		h.t.Errorf("HEAD of tag %s at %s = %d", tag, h.node.ID(), r.Status)
	}
	return r.Header.Get("Docker-Content-Digest")
}

// pushImage pushes a whole image as a client does.
func (h hosted) pushImage(tag string, seed uint64, sizes ...int64) *images.Image {
	h.t.Helper()
	i, err := images.Random(h.t.TempDir(), seed, sizes...)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := images.Push(h.t.Context(), i, h.node.URL(), h.name, tag, images.Auth{}); err != nil {
		h.t.Fatalf("push at %s: %v", h.node.ID(), err)
	}
	return i
}

// pull pulls an image as an engine does.
func (h hosted) pull(reference string) error {
	return pullImage(h.t.Context(), h.node, h.name, reference)
}

// promptly is how long an answer that no quorum is there may take: 2 s are promised, and the machine is busy.
const promptly = 5 * time.Second

// unavailable sends a request that needs a quorum while there is none.
func (h hosted) unavailable(method, path string, body io.Reader, header ...string) {
	h.t.Helper()
	r := h.refused(http.StatusServiceUnavailable, "UNAVAILABLE", method, path, body, header...)
	if r.Header.Get("Retry-After") == "" {
		h.t.Errorf("%s %s at %s = 503 without Retry-After", method, path, h.node.ID())
	}
	if r.Took > promptly && !testfarm.Slowed {
		h.t.Errorf("%s %s at %s = 503 after %v; want it within 2 s", method, path, h.node.ID(), r.Took)
	}
}

// manifestAgain is another manifest of the same image.
func manifestAgain(t *testing.T, raw []byte) document {
	t.Helper()
	var content map[string]any
	if err := json.Unmarshal(raw, &content); err != nil {
		t.Fatal(err)
	}
	content["annotations"] = map[string]string{"again": "yes"}
	return manifestOf(t, oci.MediaTypeOCIManifest, content)
}
