package access_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/access"
)

func TestCredentialsAreReadStrictly(t *testing.T) {
	for text, want := range map[string]access.Credential{
		"Basic dXNlcjpwYXNz":     "Basic dXNlcjpwYXNz",
		"basic   dXNlcjpwYXNz":   "Basic dXNlcjpwYXNz",
		"BASIC Og==":             "Basic Og==", // neither user nor password
		"Bearer a.b-c_d~e+f/g==": "Bearer a.b-c_d~e+f/g==",
		"bEARER x":               "Bearer x",
	} {
		if got, err := access.ParseCredential(text); string(got) != string(want) || err != nil {
			t.Errorf("ParseCredential(%q) = %q, %v; want %q", text, string(got), err, string(want))
		}
	}
	for text, want := range map[string]error{
		"": access.ErrMalformed, " ": access.ErrMalformed, "Basic": access.ErrMalformed, "Bearer": access.ErrMalformed, "Bearer ": access.ErrMalformed,
		"Bearer a b": access.ErrMalformed, "Bearer a,b": access.ErrMalformed, "Bearer =": access.ErrMalformed, "Bearer é": access.ErrMalformed,
		"Basic dXNlcg==": access.ErrMalformed, "Basic dXNlcjpwYXNz=": access.ErrMalformed, "Basic dXNlcjpwYXN": access.ErrMalformed,
		"Basic dXNlcjoAeA==": access.ErrMalformed, "Basic dXNl\r\ncjpwYXNz": access.ErrMalformed, "Basic Og=h": access.ErrMalformed, "Basic OgF=": access.ErrMalformed,
		"Bearer " + strings.Repeat("a", access.MaxCredential): access.ErrMalformed,
		"Digest x=y": access.ErrScheme, "Negotiate": access.ErrScheme, "BasicdXNlcjpwYXNz": access.ErrScheme,
	} {
		if got, err := access.ParseCredential(text); !errors.Is(err, want) || got != "" {
			t.Errorf("ParseCredential(%.40q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

// A credential gets into no log, message or file, however a caller is written out.
func TestACredentialDoesNotShowItself(t *testing.T) {
	const secret = "dXNlcjpwYXNz"
	c := access.Caller{Authorization: "Basic " + secret}
	var out bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		log.Info("x", slog.Any("caller", c), slog.Any("authorization", c.Authorization))
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%s %v %+v %#v %s %q", raw, c, c, c, c.Authorization, c.Authorization)
	fmt.Fprint(&out, access.WithCaller(context.Background(), c))
	if strings.Contains(out.String(), secret) {
		t.Errorf("a credential is written out: %s", &out)
	}
}

func TestWithoutAClientTheCallerIsTheNodeItself(t *testing.T) {
	if c := access.CallerOf(t.Context()); c != (access.Caller{Local: true}) {
		t.Errorf("CallerOf without a caller = %+v; want nobody, over loopback", c)
	}
	want := access.Caller{Authorization: "Bearer a", OwnName: true}
	if c := access.CallerOf(access.WithCaller(t.Context(), want)); c != want {
		t.Errorf("CallerOf = %+v; want %+v", c, want)
	}
}

func TestKeysAreOfOneCredentialAndOneSecret(t *testing.T) {
	one, other := access.NewSecret(), access.NewSecret()
	long := access.Credential("Bearer " + strings.Repeat("a", 1000))
	if one.KeyOf(long) != one.KeyOf("Bearer "+access.Credential(strings.Repeat("a", 1000))) {
		t.Error("equal credentials have two keys")
	}
	seen := map[access.Key]access.Credential{}
	for _, c := range []access.Credential{"", "Bearer a", "Bearer b", long, long + "a", long[:256], long[:512], long[:511]} {
		k := one.KeyOf(c)
		if before, ok := seen[k]; ok {
			t.Errorf("%d and %d bytes have one key", len(before), len(c))
		}
		seen[k] = c
		if other.KeyOf(c) == k {
			t.Error("two secrets make one key")
		}
	}
}

func FuzzCredential(f *testing.F) {
	for _, text := range []string{"Basic dXNlcjpwYXNz", "bearer  abc==", "Basic Og==", "Digest a", "", "Bearer é"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := access.ParseCredential(text)
		if err != nil {
			if c != "" || !errors.Is(err, access.ErrMalformed) && !errors.Is(err, access.ErrScheme) {
				t.Errorf("ParseCredential(%q) = %q, %v", text, string(c), err)
			}
			return
		}
		again, err := access.ParseCredential(string(c))
		if err != nil || string(again) != string(c) || len(c) > len(text) {
			t.Errorf("ParseCredential(%q) = %q, of that %q, %v; want the same", text, string(c), string(again), err)
		}
	})
}
