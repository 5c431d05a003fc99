package upstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
)

func TestManifestsAreCheckedAgainstTheirDigest(t *testing.T) {
	raw := []byte(`{"schemaVersion":2}`)
	announced := ""
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", oci.MediaTypeOCIManifest+"; charset=utf-8")
		if announced != "" {
			w.Header().Set("Docker-Content-Digest", announced)
		}
		_, _ = w.Write(raw)
	})
	c := client(t, r.URL, nil)
	other := digestOf([]byte("other"))
	for _, row := range []struct {
		ref, announced string
		good           bool
	}{
		{"latest", "", true},
		{"latest", digestOf(raw).String(), true},
		{"latest", oci.FromBytes(oci.SHA512, raw).String(), true},
		{"latest", "md5:abc", true}, // says nothing
		{"latest", other.String(), false},
		{digestOf(raw).String(), "", true},
		{digestOf(raw).String(), other.String(), true}, // what was asked for goes before what is announced
		{other.String(), other.String(), false},
		{oci.FromBytes(oci.SHA512, raw).String(), "", true},
	} {
		announced = row.announced
		mediaType, got, d, err := c.Manifest(t.Context(), repo, row.ref, nil)
		if !row.good {
			if bad, ok := errors.AsType[*oci.MismatchError](err); !ok || bad.Digest != other {
				t.Errorf("Manifest(%s) announced as %q: %v; want a MismatchError of %s", row.ref, row.announced, err, other)
			}
			continue
		}
		if err != nil || mediaType != oci.MediaTypeOCIManifest || oci.FromBytes(d.Algorithm(), raw) != d {
			t.Errorf("Manifest(%s) announced as %q = %s, %s, %v", row.ref, row.announced, mediaType, d, err)
		}
		equal(t, "manifest", got, raw)
	}
	for ref, want := range map[string]error{"sha256:abc": oci.ErrDigestInvalid, "a/b": oci.ErrTagInvalid, "": oci.ErrTagInvalid} {
		if _, _, _, err := c.Manifest(t.Context(), repo, ref, nil); !errors.Is(err, want) {
			t.Errorf("Manifest(%q) = %v; want %v", ref, err, want)
		}
	}
}

func TestHugeManifestsAreRefused(t *testing.T) {
	for name, length := range map[string]string{"announced": fmt.Sprint(oci.MaxManifestBytes + 1), "not announced": ""} {
		r := serve(t, func(w http.ResponseWriter, q *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			block := make([]byte, 64<<10)
			for range oci.MaxManifestBytes/len(block) + 1 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
		c := client(t, r.URL, nil)
		if _, _, _, err := c.Manifest(t.Context(), repo, "latest", nil); !errors.Is(err, oci.ErrTooLarge) {
			t.Errorf("%s: Manifest = %v; want ErrTooLarge", name, err)
		}
	}
}

func TestSchema1IsNotServed(t *testing.T) {
	kind := oci.MediaTypeDockerSigned1
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		raw := []byte(`{"schemaVersion":1}`)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digestOf(raw).String())
		_, _ = w.Write(raw)
	})
	c := client(t, r.URL, nil)
	for _, kind = range []string{oci.MediaTypeDockerSigned1, oci.MediaTypeDockerSchema1, "application/json", ""} {
		if _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); !errors.Is(err, oci.ErrUnsupported) {
			t.Errorf("Manifest as %q = %v; want ErrUnsupported", kind, err)
		}
		if _, _, err := c.Resolve(t.Context(), repo, "1", nil); !errors.Is(err, oci.ErrUnsupported) {
			t.Errorf("ResolveTag as %q = %v; want ErrUnsupported", kind, err)
		}
	}
}

func TestAVagueMediaTypeIsFoundInside(t *testing.T) {
	raw := ""
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(raw))
	})
	c := client(t, r.URL, nil)
	for text, want := range map[string]string{
		`{"mediaType":"application/vnd.oci.image.index.v1+json"}`: oci.MediaTypeOCIIndex,
		`{"schemaVersion":2,"manifests":[]}`:                      oci.MediaTypeOCIIndex,
		`{"schemaVersion":2,"config":{},"layers":[]}`:             oci.MediaTypeOCIManifest,
		`{}`:   "text/plain",
		`oops`: "text/plain",
	} {
		raw = text
		desc, got, err := c.Resolve(t.Context(), repo, "1", nil)
		if err != nil || desc.MediaType != want || desc.Digest != digestOf([]byte(text)) || string(got) != text {
			t.Errorf("ResolveTag of %s = %+v, %v; want %s by GET", text, desc, err, want)
		}
	}
}

func TestAcceptIsWhatTheCallerSaysOrTheUnion(t *testing.T) {
	var accept []string
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		accept = append(accept, strings.Join(q.Header["Accept"], "|"))
		if q.Header.Get("Accept-Encoding") != "identity" || q.Header.Get("User-Agent") != "pullonce" {
			t.Errorf("headers are %v; want Accept-Encoding identity, User-Agent pullonce", q.Header)
		}
		_, _ = w.Write([]byte("{}"))
	})
	c := client(t, r.URL, nil)
	for _, types := range [][]string{nil, {"a/b", "c/d"}} {
		if _, _, _, err := c.Manifest(t.Context(), repo, "1", types); err != nil {
			t.Fatal(err)
		}
	}
	if want := strings.Join(oci.ManifestTypes(), ", "); len(accept) != 2 || accept[0] != want || accept[1] != "a/b, c/d" {
		t.Errorf("Accept was %q; want %q, then a/b, c/d", accept, want)
	}
}

func TestReferrersComeFromTheAPIOrTheFallbackTag(t *testing.T) {
	for _, api := range []bool{true, false} {
		h := startHub(t, hub.Config{NoReferrersAPI: !api})
		subject, raw := putManifest(t, h, repo, "1")
		c := client(t, h.URL(), nil)
		got, filtered, err := c.Referrers(t.Context(), repo, subject, "")
		if err != nil || len(entries(t, got)) != 0 || filtered {
			t.Errorf("API %v: Referrers of what has none = %s, %v, %v; want an empty index", api, got, filtered, err)
		}
		if api {
			referrer := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x.sbom","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
				oci.MediaTypeOCIManifest, oci.MediaTypeOCIManifest, subject, len(raw))
			if _, err := h.PutManifest(repo, digestOf(referrer).String(), oci.MediaTypeOCIManifest, referrer); err != nil {
				t.Fatal(err)
			}
		} else {
			index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
				oci.MediaTypeOCIIndex, oci.MediaTypeOCIManifest, subject, len(raw))
			if _, err := h.PutManifest(repo, "sha256-"+subject.Hex(), oci.MediaTypeOCIIndex, index); err != nil {
				t.Fatal(err)
			}
		}
		got, _, err = c.Referrers(t.Context(), repo, subject, "")
		if err != nil || len(entries(t, got)) != 1 {
			t.Errorf("API %v: Referrers = %s, %v; want one", api, got, err)
		}
	}
}

func TestReferrersOnSeveralPagesAreOneIndex(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		page := q.URL.Query().Get("page")
		w.Header().Set("Content-Type", oci.MediaTypeOCIIndex)
		w.Header().Set("OCI-Filters-Applied", "artifactType")
		if q.URL.Query().Get("endless") != "" {
			w.Header().Set("Link", `<?endless=1>; rel="next"`)
		} else if page != "2" {
			w.Header().Set("Link", fmt.Sprintf(`<%s?artifactType=a&page=2>; rel="next"`, q.URL.Path))
		}
		fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"digest":"page%s","extra":{"kept":true}}]}`, page)
	})
	c := client(t, r.URL, nil)
	got, filtered, err := c.Referrers(t.Context(), repo, digestOf(nil), "a")
	all := entries(t, got)
	if err != nil || !filtered || len(all) != 2 || string(all[1]) != `{"digest":"page2","extra":{"kept":true}}` {
		t.Errorf("Referrers = %s, %v, %v; want both pages, filtered", got, filtered, err)
	}
	endless := serve(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", oci.MediaTypeOCIIndex)
		w.Header().Set("Link", `</x?again=1>; rel="next"`)
		_, _ = w.Write([]byte(`{"manifests":[]}`))
	})
	if _, _, err := client(t, endless.URL, nil).Referrers(t.Context(), repo, digestOf(nil), ""); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("Referrers without end = %v; want ErrTooLarge", err)
	}
	html := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "/manifests/") {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<html>welcome`))
	})
	if got, _, err := client(t, html.URL, nil).Referrers(t.Context(), repo, digestOf(nil), ""); err != nil || len(entries(t, got)) != 0 {
		t.Errorf("Referrers of a registry that answers HTML = %s, %v; want an empty index", got, err)
	}
}

func entries(t *testing.T, raw []byte) []json.RawMessage {
	t.Helper()
	var index struct{ Manifests []json.RawMessage }
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Errorf("index %q: %v", raw, err)
	}
	return index.Manifests
}
