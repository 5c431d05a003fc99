package oci_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

// The digests of "abc", from FIPS 180-4's examples.
const (
	abc256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	abc512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" +
		"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)

func TestADigestIsThatOfTheStandard(t *testing.T) {
	for algorithm, want := range map[string]string{oci.SHA256: abc256, oci.SHA512: abc512} {
		d := oci.FromBytes(algorithm, []byte("abc"))
		if d.String() != want {
			t.Errorf("FromBytes(%s, abc) = %s; want %s", algorithm, d, want)
		}
		if got := oci.MustDigest(want); got != d {
			t.Errorf("MustDigest(%s) = %s; want it equal to FromBytes", want, got)
		}
		h := d.New()
		_, _ = h.Write([]byte("abc"))
		if got := oci.FromHash(algorithm, h); got != d {
			t.Errorf("FromHash after New = %s; want %s", got, d)
		}
		if d.Algorithm() != algorithm || d.Algorithm()+":"+d.Hex() != want || d.IsZero() {
			t.Errorf("%s has algorithm %q, hex %q, zero %v", d, d.Algorithm(), d.Hex(), d.IsZero())
		}
	}
}

func TestWhatIsNoDigestIsRefused(t *testing.T) {
	hex := abc256[len("sha256:"):]
	for _, text := range []string{
		"", ":", "sha256", "sha256:", hex, "sha256:" + hex[1:], "sha256:" + hex + "0", "sha256:" + strings.ToUpper(hex),
		"SHA256:" + hex, "sha512:" + hex, "md5:" + hex[:32], "sha384:" + strings.Repeat("0", 96), "sha256 :" + hex,
		"sha256:" + hex[1:] + "g", "sha256:" + hex[1:] + "/", "sha256+b64:" + hex, "sha256:" + hex[2:] + "\x00\x00",
		"sha256:sha256:" + hex, " " + abc256, abc256 + "\n", "../../etc/passwd", "sha256:../" + hex[3:],
	} {
		if d, err := oci.ParseDigest(text); !errors.Is(err, oci.ErrDigestInvalid) || !d.IsZero() {
			t.Errorf("ParseDigest(%q) = %q, %v; want ErrDigestInvalid", text, d, err)
		}
	}
}

func TestAnErrorDoesNotRepeatALongText(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, text := range []string{long, long + ":" + long, "sha256:" + long} {
		if _, err := oci.ParseDigest(text); err == nil || len(err.Error()) > 300 {
			t.Errorf("ParseDigest of %d bytes: error of %d bytes", len(text), len(err.Error()))
		}
	}
}

func TestMustDigestPanicsOnWhatIsNone(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("MustDigest(\"x\") returned; want a panic")
		}
	}()
	oci.MustDigest("x")
}

func TestTheZeroDigestNamesNothing(t *testing.T) {
	var d oci.Digest
	if !d.IsZero() || d.String() != "" || d.Algorithm() != "" || d.Hex() != "" {
		t.Errorf("zero Digest is %q, algorithm %q, hex %q", d, d.Algorithm(), d.Hex())
	}
	raw, err := json.Marshal(d)
	if err != nil || string(raw) != `""` {
		t.Errorf("Marshal(zero) = %s, %v; want an empty text", raw, err)
	}
	back := oci.MustDigest(abc256)
	if err := json.Unmarshal(raw, &back); err != nil || !back.IsZero() {
		t.Errorf("Unmarshal(%s) = %q, %v; want the zero Digest", raw, back, err)
	}
}

func TestDigestsTravelAsText(t *testing.T) {
	type holder struct {
		D oci.Digest `json:"d"`
	}
	want := holder{oci.MustDigest(abc512)}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got holder
	if err := json.Unmarshal(raw, &got); err != nil || got != want {
		t.Errorf("Unmarshal(%s) = %v, %v; want %v", raw, got, err, want)
	}
	if err := json.Unmarshal([]byte(`{"d":"sha256:12"}`), &got); !errors.Is(err, oci.ErrDigestInvalid) {
		t.Errorf("Unmarshal of a bad digest: %v; want ErrDigestInvalid", err)
	}
	if got != want {
		t.Errorf("a text that was refused changed the digest to %v", got)
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, seed := range []string{abc256, abc512, "", "sha256:", "sha256:" + strings.Repeat("f", 64), "sha256:../..", "a:b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := oci.ParseDigest(text)
		if err != nil {
			if !errors.Is(err, oci.ErrDigestInvalid) || !d.IsZero() {
				t.Fatalf("ParseDigest(%q) = %q, %v; want the zero Digest and ErrDigestInvalid", text, d, err)
			}
			return
		}
		if d.String() != text || strings.ContainsAny(text, "/\\. \x00") {
			t.Fatalf("ParseDigest(%q) = %q; want the same text, fit for a path", text, d)
		}
		if want := d.New().Size() * 2; len(d.Hex()) != want {
			t.Fatalf("%q has %d hex digits; want %d", d, len(d.Hex()), want)
		}
		raw, err := d.MarshalText()
		var back oci.Digest
		if err != nil || back.UnmarshalText(raw) != nil || back != d {
			t.Fatalf("%q does not survive MarshalText and UnmarshalText: %q", d, back)
		}
	})
}
