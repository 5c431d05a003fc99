package oci_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

func TestAReferenceIsATagOrADigest(t *testing.T) {
	for text, want := range map[string]oci.Reference{
		"latest":                 {Tag: "latest"},
		"_":                      {Tag: "_"},
		"3.19-alpine_x.Y":        {Tag: "3.19-alpine_x.Y"},
		strings.Repeat("a", 128): {Tag: strings.Repeat("a", 128)},
		"sha256":                 {Tag: "sha256"},
		abc256:                   {Digest: oci.MustDigest(abc256)},
		abc512:                   {Digest: oci.MustDigest(abc512)},
		"sha256-" + abc256[7:]:   {Tag: "sha256-" + abc256[7:]}, // the fallback tag of referrers
	} {
		got, err := oci.ParseReference(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseReference(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestWhatIsNoReferenceIsRefused(t *testing.T) {
	for text, want := range map[string]error{
		"": oci.ErrTagInvalid, ".a": oci.ErrTagInvalid, "-a": oci.ErrTagInvalid, "a b": oci.ErrTagInvalid,
		"a/b": oci.ErrTagInvalid, "é": oci.ErrTagInvalid, "a\x00": oci.ErrTagInvalid, "a@b": oci.ErrTagInvalid,
		strings.Repeat("a", 129): oci.ErrTagInvalid, "..": oci.ErrTagInvalid, "a%41": oci.ErrTagInvalid,
		"sha256:12": oci.ErrDigestInvalid, "a:b": oci.ErrDigestInvalid, ":": oci.ErrDigestInvalid,
	} {
		if got, err := oci.ParseReference(text); !errors.Is(err, want) || got != (oci.Reference{}) {
			t.Errorf("ParseReference(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

// grammar is the tag's of the OCI distribution specification 1.1.
var grammar = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{"latest", abc256, "", "-a", "a:b", "a\n", strings.Repeat("z", 129)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := oci.ParseReference(text)
		if err != nil {
			if !errors.Is(err, oci.ErrTagInvalid) && !errors.Is(err, oci.ErrDigestInvalid) || r != (oci.Reference{}) {
				t.Fatalf("ParseReference(%q) = %v, %v", text, r, err)
			}
			if grammar.MatchString(text) && !strings.HasSuffix(text, "\n") {
				t.Fatalf("ParseReference(%q): %v, but it is a tag", text, err)
			}
			return
		}
		if r.String() != text || (r.Tag == "") == r.Digest.IsZero() {
			t.Fatalf("ParseReference(%q) = %+v; want exactly one of the two, and the same text", text, r)
		}
		if r.Tag != "" && !grammar.MatchString(r.Tag) {
			t.Fatalf("ParseReference(%q) took a tag that the specification does not", text)
		}
	})
}
