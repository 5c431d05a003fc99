package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pullonce/pullonce/oci"
)

func descriptor(mediaType string, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, abc256, size)
}

var (
	schema2 = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerManifest + `","config":` +
		descriptor("application/vnd.docker.container.image.v1+json", 7) + `,"layers":[` +
		descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", 8) + `,` +
		`{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"` + abc512 + `","size":9,"urls":["https://example.com/x"]}]}`
	ociImage = `{"schemaVersion":2,"config":` + descriptor("application/vnd.oci.image.config.v1+json", 7) +
		`,"layers":[` + descriptor("application/vnd.oci.image.layer.v1.tar+zstd", 8) + `],"annotations":{"a":"b"}}`
	artifact = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeOCIManifest + `","artifactType":"application/spdx","config":` +
		descriptor("application/vnd.oci.empty.v1+json", 2) + `,"layers":[` + descriptor("text/spdx", 1) + `],"subject":` +
		descriptor(oci.MediaTypeOCIManifest, 100) + `}`
	ociIndex = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeOCIIndex + `","manifests":[` +
		descriptor(oci.MediaTypeOCIManifest, 5) + `,` + descriptor(oci.MediaTypeOCIManifest, 6) + `]}`
	dockerList = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerList + `","manifests":[` +
		descriptor(oci.MediaTypeDockerManifest, 5) + `]}`
	both = `{"schemaVersion":2,"config":` + descriptor("c", 7) + `,"manifests":[` + descriptor("m", 5) + `]}`
)

func TestManifestsOfAllKindsAreRead(t *testing.T) {
	for _, c := range []struct {
		name, mediaType, raw            string
		index                           bool
		layers, manifests, blobs        int
		artifactType, subject, wantType string
	}{
		{"schema 2", oci.MediaTypeDockerManifest, schema2, false, 2, 0, 3, "", "", oci.MediaTypeDockerManifest},
		{"OCI image without a type inside", oci.MediaTypeOCIManifest, ociImage, false, 1, 0, 2, "", "", oci.MediaTypeOCIManifest},
		{"artifact", oci.MediaTypeOCIManifest, artifact, false, 1, 0, 2, "application/spdx", abc256, oci.MediaTypeOCIManifest},
		{"OCI index", oci.MediaTypeOCIIndex, ociIndex, true, 0, 2, 0, "", "", oci.MediaTypeOCIIndex},
		{"Docker list", oci.MediaTypeDockerList, dockerList, true, 0, 1, 0, "", "", oci.MediaTypeDockerList},
		{"type only inside", "", ociIndex, true, 0, 2, 0, "", "", oci.MediaTypeOCIIndex},
		{"empty index", oci.MediaTypeOCIIndex, `{"manifests":[]}`, true, 0, 0, 0, "", "", oci.MediaTypeOCIIndex},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := oci.ParseManifest(c.mediaType, []byte(c.raw))
			if err != nil {
				t.Fatal(err)
			}
			if m.Index() != c.index || len(m.Layers) != c.layers || len(m.Manifests) != c.manifests || len(m.Blobs()) != c.blobs {
				t.Errorf("ParseManifest = %+v; want index %v, %d layers, %d manifests, %d blobs", m, c.index, c.layers, c.manifests, c.blobs)
			}
			if m.MediaType != c.wantType || m.ArtifactType != c.artifactType {
				t.Errorf("ParseManifest has type %q, artifact type %q; want %q, %q", m.MediaType, m.ArtifactType, c.wantType, c.artifactType)
			}
			if got := m.Subject != nil; got != (c.subject != "") || got && m.Subject.Digest.String() != c.subject {
				t.Errorf("ParseManifest has subject %v; want %q", m.Subject, c.subject)
			}
		})
	}
}

func TestBlobsComeInTheOrderOfTheManifest(t *testing.T) {
	m, err := oci.ParseManifest(oci.MediaTypeDockerManifest, []byte(schema2))
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, b := range m.Blobs() {
		sizes = append(sizes, b.Size)
	}
	if fmt.Sprint(sizes) != "[7 8 9]" {
		t.Errorf("Blobs() have sizes %v; want the config's first, then the layers'", sizes)
	}
	if got := m.Layers[1].URLs; len(got) != 1 || got[0] != "https://example.com/x" {
		t.Errorf("a foreign layer has URLs %v", got)
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, mediaType, raw string
		want                 error
	}{
		{"schema 1", oci.MediaTypeDockerSchema1, `{"schemaVersion":1}`, oci.ErrUnsupported},
		{"signed schema 1", oci.MediaTypeDockerSigned1, `{"schemaVersion":1}`, oci.ErrUnsupported},
		{"both an index and an image", oci.MediaTypeOCIIndex, both, oci.ErrManifestInvalid},
		{"index with layers", oci.MediaTypeOCIIndex, strings.Replace(ociIndex, `"manifests"`, `"layers":[`+descriptor("l", 1)+`],"manifests"`, 1), oci.ErrManifestInvalid},
		{"another type inside", oci.MediaTypeOCIManifest, ociIndex, oci.ErrManifestInvalid},
		{"no JSON", oci.MediaTypeOCIManifest, `<html>`, oci.ErrManifestInvalid},
		{"empty", oci.MediaTypeOCIManifest, ``, oci.ErrManifestInvalid},
		{"an array", oci.MediaTypeOCIManifest, `[]`, oci.ErrManifestInvalid},
		{"two documents", oci.MediaTypeOCIManifest, ociImage + ociImage, oci.ErrManifestInvalid},
		{"bad digest", oci.MediaTypeOCIManifest, strings.Replace(ociImage, "sha256:b", "sha256:X", 1), oci.ErrManifestInvalid},
		{"no digest", oci.MediaTypeOCIManifest, `{"layers":[{"size":1}]}`, oci.ErrManifestInvalid},
		{"subject without a digest", oci.MediaTypeOCIManifest, `{"layers":[],"subject":{"size":1}}`, oci.ErrManifestInvalid},
		{"negative size", oci.MediaTypeOCIManifest, `{"layers":[` + descriptor("l", -1) + `]}`, oci.ErrManifestInvalid},
		{"size as text", oci.MediaTypeOCIManifest, `{"layers":[{"digest":"` + abc256 + `","size":"1"}]}`, oci.ErrManifestInvalid},
		{"size beyond 64 bits", oci.MediaTypeOCIManifest, `{"layers":[{"digest":"` + abc256 + `","size":99999999999999999999}]}`, oci.ErrManifestInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if m, err := oci.ParseManifest(c.mediaType, []byte(c.raw)); !errors.Is(err, c.want) {
				t.Errorf("ParseManifest(%q) = %+v, %v; want %v", c.mediaType, m, err, c.want)
			}
		})
	}
}

func TestAManifestOfMoreThanFourMebibytesIsTooLarge(t *testing.T) {
	pad := func(n int) []byte {
		head := []byte(`{"annotations":{"a":"`)
		tail := []byte(`"}}`)
		return append(append(head, bytes.Repeat([]byte("x"), n-len(head)-len(tail))...), tail...)
	}
	if _, err := oci.ParseManifest(oci.MediaTypeOCIManifest, pad(oci.MaxManifestBytes)); err != nil {
		t.Errorf("ParseManifest of exactly 4 MiB: %v; want it read", err)
	}
	if _, err := oci.ParseManifest(oci.MediaTypeOCIManifest, pad(oci.MaxManifestBytes+1)); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("ParseManifest of 4 MiB and a byte: %v; want ErrTooLarge", err)
	}
}

func TestManifestTypesLeaveOutSchema1(t *testing.T) {
	types := oci.ManifestTypes()
	types[0] = "changed"
	if oci.ManifestTypes()[0] == "changed" {
		t.Error("ManifestTypes hands out the same slice twice")
	}
	for _, mediaType := range oci.ManifestTypes() {
		if strings.Contains(mediaType, "manifest.v1+") && !strings.Contains(mediaType, "oci") {
			t.Errorf("ManifestTypes has %s", mediaType)
		}
	}
}

// FuzzParseManifest holds manifests to what readers rely on: every descriptor has a digest and a size, an index is no
// image, and what was read means the same when it is written and read again.
func FuzzParseManifest(f *testing.F) {
	for _, raw := range []string{schema2, ociImage, artifact, ociIndex, dockerList, both, `{}`, `null`, `{"layers":[null]}`, `{"config":null}`, `{"subject":{}}`} {
		f.Add(oci.MediaTypeOCIManifest, []byte(raw))
		f.Add("", []byte(raw))
	}
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		if !utf8.ValidString(mediaType) {
			return // no HTTP header that a client passes on
		}
		m, err := oci.ParseManifest(mediaType, raw)
		if err != nil {
			if !errors.Is(err, oci.ErrManifestInvalid) && !errors.Is(err, oci.ErrTooLarge) && !errors.Is(err, oci.ErrUnsupported) {
				t.Fatalf("ParseManifest(%q, %q): %v, which is none of its errors", mediaType, raw, err)
			}
			return
		}
		for _, d := range append(m.Blobs(), m.Manifests...) {
			if d.Digest.IsZero() || d.Size < 0 {
				t.Fatalf("ParseManifest(%q, %q) has descriptor %+v", mediaType, raw, d)
			}
		}
		if m.Subject != nil && (m.Subject.Digest.IsZero() || m.Subject.Size < 0) {
			t.Fatalf("ParseManifest(%q, %q) has subject %+v", mediaType, raw, m.Subject)
		}
		if len(m.Manifests) > 0 && len(m.Blobs()) > 0 {
			t.Fatalf("ParseManifest(%q, %q) is both an index and an image", mediaType, raw)
		}
		written, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := oci.ParseManifest(m.MediaType, written)
		if errors.Is(err, oci.ErrTooLarge) {
			return // escapes may make it longer
		}
		rewritten, _ := json.Marshal(again)
		if err != nil || !bytes.Equal(written, rewritten) {
			t.Fatalf("ParseManifest(%q, %q) does not survive a round trip: %s, %v, %s", mediaType, raw, written, err, rewritten)
		}
	})
}
