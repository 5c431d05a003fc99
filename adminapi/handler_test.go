package adminapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// loopback is a door on 127.0.0.1:5080.
func loopback(f adminapi.Farm) http.Handler {
	cfg := adminapi.Default()
	cfg.Listen, cfg.Version = []string{"127.0.0.1:5080"}, "v1.2.3"
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "p2pd_up 1\n") })
	return adminapi.New(cfg, f, metrics, discard())
}

// get asks the door as a client on this host would, with change made to the request.
func get(h http.Handler, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:5080"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantError checks that an answer is an error of that status and code, in JSON.
func wantError(t *testing.T, what string, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var body struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Errorf("%s: %q is not JSON: %v", what, w.Body, err)
	}
	if w.Code != status || body.Error.Code != code || body.Error.Message == "" {
		t.Errorf("%s: %d %s; want %d %s with a message", what, w.Code, w.Body, status, code)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type %q; want application/json", what, got)
	}
}

func TestEveryEndpointAnswersWithItsDocument(t *testing.T) {
	h := loopback(newFarm(member{id: "a"}, member{id: "b"}))
	for path, want := range map[string]string{
		"/livez":                "{\n  \"status\": \"live\"\n}\n",
		"/readyz":               "{\n  \"status\": \"ready\"\n}\n",
		"/metrics":              "p2pd_up 1\n",
		"/v1/status":            `"degraded": false`,
		"/v1/status?timeout=5s": `"answered": 2`,
		"/v1/node":              `"id": "a"`,
		"/v1/members":           `"id": "b"`,
		"/v1/version":           `"version": "v1.2.3"`,
	} {
		w := get(h, path, nil)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s: %d %s; want 200 with %s", path, w.Code, w.Body, want)
		}
		if strings.HasPrefix(path, "/v1/") && !strings.Contains(w.Body.String(), `"schema_version": 1`) {
			t.Errorf("GET %s: %s; want a schema version", path, w.Body)
		}
		if strings.Contains(w.Body.String(), "null") {
			t.Errorf("GET %s: %s; want empty lists rather than null", path, w.Body)
		}
	}
}

func TestANodeIsReadyWhenItSaysSo(t *testing.T) {
	f := newFarm(member{id: "a"})
	f.ready = errors.New("rebuilding the index")
	w := get(loopback(f), "/readyz", nil)
	wantError(t, "/readyz", w, http.StatusServiceUnavailable, "not_ready")
	if !strings.Contains(w.Body.String(), "rebuilding the index") {
		t.Errorf("/readyz: %s; want the reason", w.Body)
	}
	if w := get(loopback(f), "/livez", nil); w.Code != http.StatusOK {
		t.Errorf("/livez: %d; want 200 of a node that is not ready", w.Code)
	}
}

func TestWrongRequestsAreRefusedInJSON(t *testing.T) {
	h := loopback(newFarm(member{id: "a"}))
	for _, row := range []struct {
		what, path string
		change     func(*http.Request)
		status     int
		code       string
	}{
		{"unknown path", "/v1/nothing", nil, 404, "not_found"},
		{"root", "/", nil, 404, "not_found"},
		{"path with a slash too many", "/v1/status/", nil, 404, "not_found"},
		{"path that climbs", "/v1/../v1/status", nil, 404, "not_found"},
		{"profiles on loopback", "/debug/pprof/", nil, 404, "not_found"},
		{"POST", "/v1/status", func(r *http.Request) { r.Method = http.MethodPost }, 405, "method_not_allowed"},
		{"OPTIONS", "/v1/status", func(r *http.Request) { r.Method = http.MethodOptions }, 405, "method_not_allowed"},
		{"body", "/v1/status", func(r *http.Request) { r.ContentLength = -1 }, 400, "bad_request"},
		{"timeout of words", "/v1/status?timeout=soon", nil, 400, "bad_request"},
		{"timeout without unit", "/v1/status?timeout=2", nil, 400, "bad_request"},
		{"no time at all", "/v1/status?timeout=0s", nil, 400, "bad_request"},
		{"an hour", "/v1/status?timeout=1h", nil, 400, "bad_request"},
		{"rebound name", "/v1/status", func(r *http.Request) { r.Host = "evil.example:5080" }, 421, "wrong_host"},
		{"no Host", "/livez", func(r *http.Request) { r.Host = "" }, 421, "wrong_host"},
		{"Origin of a page", "/v1/status", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403, "forbidden"},
		{"opaque Origin", "/v1/status", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403, "forbidden"},
		{"image on a page", "/v1/status", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "forbidden"},
	} {
		w := get(h, row.path, row.change)
		wantError(t, row.what, w, row.status, row.code)
		if row.status == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow is %q; want GET, HEAD", row.what, w.Header().Get("Allow"))
		}
	}
}

func TestAPageOfTheDoorsOwnOriginIsAnswered(t *testing.T) {
	w := get(loopback(newFarm(member{id: "a"})), "/v1/status", func(r *http.Request) {
		r.Header.Set("Origin", "http://127.0.0.1:5080")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	})
	if w.Code != http.StatusOK {
		t.Errorf("same origin: %d %s; want 200", w.Code, w.Body)
	}
}

func TestAnswersCanBeNothingButDataInABrowser(t *testing.T) {
	h := loopback(newFarm(member{id: "a"}))
	for _, path := range []string{"/v1/status", "/metrics", "/nothing"} {
		header := get(h, path, nil).Header()
		for key, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if got := header.Get(key); got != want {
				t.Errorf("GET %s: %s is %q; want %q", path, key, got, want)
			}
		}
	}
}

func TestInsidesOfAnErrorStayInside(t *testing.T) {
	f := newFarm(member{id: "a"})
	f.broken = errors.New("secret path")
	for _, path := range []string{"/v1/status", "/v1/node", "/v1/members"} {
		w := get(loopback(f), path, nil)
		wantError(t, path, w, http.StatusInternalServerError, "internal")
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %s; want no detail", path, w.Body)
		}
	}
}

func TestAFifthCollectionWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := loopback(newFarm(member{id: "a"}, member{id: "b", takes: hangs}))
		start := time.Now()
		done := make(chan time.Duration, 5)
		for range 5 {
			go func() {
				if w := get(h, "/v1/status", nil); w.Code != http.StatusOK {
					t.Errorf("status: %d %s; want 200", w.Code, w.Body)
				}
				done <- time.Since(start)
			}()
		}
		for i := range 5 {
			want := 2 * time.Second
			if i == 4 {
				want *= 2
			}
			if got := <-done; got != want {
				t.Errorf("answer %d came after %v; want %v", i, got, want)
			}
		}
	})
}

func TestTooManyCollectionsAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := loopback(newFarm(member{id: "a"}, member{id: "b", takes: hangs}))
		ctx, cancel := context.WithCancel(t.Context())
		for range 4 {
			go get(h, "/v1/status?timeout=30s", func(r *http.Request) { *r = *r.WithContext(ctx) })
		}
		synctest.Wait()
		start := time.Now()
		wantError(t, "fifth", get(h, "/v1/status?timeout=1s", nil), http.StatusServiceUnavailable, "busy")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("turned away after %v; want 3s", took)
		}
		cancel()
	})
}

func TestProfilesAreForTheUnixSocket(t *testing.T) {
	cfg := adminapi.Default()
	cfg.UnixSocket, cfg.Profiles = true, true
	h := adminapi.New(cfg, newFarm(member{id: "a"}), nil, discard())
	if w := get(h, "/debug/pprof/goroutine?debug=1", nil); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "goroutine profile") {
		t.Errorf("profile: %d %.80s; want a goroutine profile", w.Code, w.Body)
	}
	wantError(t, "no metrics handler", get(h, "/metrics", nil), 404, "not_found")
	cfg.UnixSocket = false
	if err := cfg.Validate(); err == nil {
		t.Error("Validate() of profiles on loopback = nil; want an error")
	}
	wantError(t, "profiles on TCP all the same", get(adminapi.New(cfg, newFarm(member{id: "a"}), nil, discard()), "/debug/pprof/", nil), 404, "not_found")
}

func TestValidateReportsEveryProblem(t *testing.T) {
	err := adminapi.Config{Listen: []string{"5080"}, Hosts: []string{"a:1"}, Profiles: true}.Validate()
	for _, want := range []string{"profiles", `"5080"`, `"a:1"`, "ask timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v; want it to name %s", err, want)
		}
	}
	if err := adminapi.Default().Validate(); err != nil {
		t.Errorf("Default().Validate() = %v; want nil", err)
	}
}
