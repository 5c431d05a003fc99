package registryapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

func TestErrorsHaveTheSpecificationsCodes(t *testing.T) {
	registry := newMemory()
	registry.refer = func(oci.Digest, string) (registryapi.Page, error) { return registryapi.Page{}, nil }
	server := serve(t, testConfig(), registry)
	paths := map[string]string{
		"manifest": "/v2/library/app/manifests/1", "blob": "/v2/library/app/blobs/" + unknown,
		"tags": "/v2/library/app/tags/list", "referrers": "/v2/library/app/referrers/" + unknown,
	}
	for _, test := range []struct {
		err    error
		status int
		codes  map[string]string // by kind; "" for all others
	}{
		{oci.ErrNotFound, 404, map[string]string{"": "MANIFEST_UNKNOWN", "blob": "BLOB_UNKNOWN", "tags": "NAME_UNKNOWN"}},
		{oci.ErrNameUnknown, 404, map[string]string{"": "NAME_UNKNOWN"}},
		{oci.ErrUnauthorized, 401, map[string]string{"": "UNAUTHORIZED"}},
		{oci.ErrDenied, 403, map[string]string{"": "DENIED"}},
		{oci.ErrUnsupported, 404, map[string]string{"": "UNSUPPORTED"}},
		{oci.ErrUnavailable, 503, map[string]string{"": "UNAVAILABLE"}},
		{oci.ErrTooLarge, 413, map[string]string{"": "SIZE_INVALID"}},
		{oci.ErrManifestInvalid, 502, map[string]string{"": "MANIFEST_INVALID"}},
		{context.DeadlineExceeded, 503, map[string]string{"": "UNAVAILABLE"}},
		{&oci.MismatchError{Piece: 3}, 502, map[string]string{"": "UNKNOWN"}},
		{&oci.TooManyRequestsError{RetryAfter: 61 * time.Second}, 429, map[string]string{"": "TOOMANYREQUESTS"}},
		{errors.New("password=secret"), 500, map[string]string{"": "UNKNOWN"}},
	} {
		registry.fault = func(context.Context) error { return fmt.Errorf("inside: %w", test.err) }
		for kind, path := range paths {
			code := test.codes[kind]
			if code == "" {
				code = test.codes[""]
			}
			got := ask(t, server, "GET", path)
			wantError(t, kind+", "+test.err.Error(), got, test.status, code)
			if strings.Contains(got.body, "inside") || strings.Contains(got.body, "secret") {
				t.Errorf("%s: detail of the inside leaked: %s", kind, got.body)
			}
			if got.header.Get("Www-Authenticate") != "" {
				t.Errorf("%s: %d with challenge %q; want none, ever", kind, got.status, got.header.Get("Www-Authenticate"))
			}
			if wait := got.header.Get("Retry-After"); (wait == "61") != (test.status == 429) || test.status != 429 && wait != "" {
				t.Errorf("%s: %d with Retry-After %q", kind, got.status, wait)
			}
			head := ask(t, server, "HEAD", path)
			if head.status != test.status || head.body != "" {
				t.Errorf("HEAD %s = %d %q; want %d and no body", path, head.status, head.body, test.status)
			}
		}
	}
}

func TestAnUpstreamThatIsNotConfiguredIsNamed(t *testing.T) {
	var out bytes.Buffer
	handler, err := registryapi.New(testConfig(), newMemory(), slog.New(slog.NewTextHandler(&out, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, name := range map[string]string{
		"/v2/nowhere.example/org/app/manifests/1":              "nowhere.example",
		"/v2/org/app/manifests/1?ns=nowhere.example:5000":      "nowhere.example:5000",
		"/v2/org/app/blobs/" + unknown + "?ns=%22quoted%22":    "the registry of that name",
		"/v2/a/tags/list?ns=" + strings.Repeat("long", 30):     "the registry of that name",
		"/v2/org/app/manifests/1?ns=%3Cscript%3Enowhere.local": "the registry of that name",
	} {
		r := httptest.NewRequest("GET", "http://localhost"+path, nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		var got struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Errors) != 1 {
			t.Fatalf("GET %s = %d %q: %v", path, w.Code, w.Body, err)
		}
		if e, want := got.Errors[0], name+" is not among this node's upstreams"; w.Code != 404 || e.Code != "NAME_UNKNOWN" || e.Message != want {
			t.Errorf("GET %s = %d %+v; want 404, NAME_UNKNOWN and %q", path, w.Code, e, want)
		}
	}
	if log := out.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "upstream is not configured") {
		t.Errorf("log is %q; want one warning for all of them", log)
	}
}

func TestPushesAreRefused(t *testing.T) {
	server := serve(t, testConfig(), newMemory())
	for _, push := range []string{
		"POST /v2/library/app/blobs/uploads/", "POST /v2/library/app/blobs/uploads/?mount=" + unknown + "&from=library/other",
		"PATCH /v2/library/app/blobs/uploads/1", "PUT /v2/library/app/blobs/uploads/1?digest=" + unknown,
		"PUT /v2/library/app/manifests/1", "DELETE /v2/library/app/manifests/" + unknown, "DELETE /v2/library/app/blobs/" + unknown,
		"OPTIONS /v2/", "BREW /v2/coffee",
	} {
		method, path, _ := strings.Cut(push, " ")
		got := ask(t, server, method, path)
		wantError(t, push, got, http.StatusMethodNotAllowed, "UNSUPPORTED")
		if got.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow %q; want GET, HEAD", push, got.header.Get("Allow"))
		}
	}
}

func TestAConfigurationNamesAllItsProblems(t *testing.T) {
	cfg := registryapi.Default()
	if err := cfg.Validate(); err != nil {
		t.Fatalf("Default().Validate() = %v; want none", err)
	}
	cfg.StallTimeout, cfg.MaxConnections, cfg.Names.Default = 0, 0, ""
	cfg.Listen, cfg.Hosts = []string{"nowhere"}, []string{"with:port"}
	_, err := registryapi.New(cfg, newMemory(), quiet(), nil)
	if err == nil {
		t.Fatal("New took a configuration with five problems")
	}
	for _, want := range []string{"stall timeout", "connection limit", "default upstream", `"nowhere"`, `"with:port"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("problems %q do not name %s", err, want)
		}
	}
}
