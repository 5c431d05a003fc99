package upstream_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

const password = "correct-horse-battery"

// challengeTo answers 401 and names a token service.
func challengeTo(w http.ResponseWriter, realm string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, realm))
	w.WriteHeader(http.StatusUnauthorized)
}

func TestCredentialsGoToNoForeignTokenService(t *testing.T) {
	stolen := ""
	foreign := serve(t, func(w http.ResponseWriter, q *http.Request) {
		stolen += q.Header.Get("Authorization") + q.URL.RawQuery
		_, _ = w.Write([]byte(`{"token":"t"}`))
	})
	// Another name for this machine, so that it is another host.
	realm := strings.Replace(foreign.URL, "127.0.0.1", "localhost", 1)
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") == "" {
			challengeTo(w, realm)
			return
		}
		_, _ = w.Write([]byte("data"))
	})
	as := func(cfg *upstream.Config) { cfg.Username, cfg.Password = "ann", password }
	if _, err := fetch(t.Context(), client(t, r.URL, as), digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("fetch with credentials = %v; want ErrUnauthorized", err)
	}
	if len(foreign.requests()) != 0 {
		t.Errorf("the foreign token service was asked: %v", stolen)
	}
	if _, err := fetch(t.Context(), client(t, r.URL, nil), digestOf(nil), 0, -1); err != nil {
		t.Errorf("anonymous fetch = %v; want none: there is nothing to steal", err)
	}
	if strings.Contains(stolen, password) || strings.Contains(stolen, "Basic") {
		t.Errorf("an anonymous token request carried %q", stolen)
	}
	allowed := client(t, r.URL, func(cfg *upstream.Config) { as(cfg); cfg.AuthHosts = []string{"localhost"} })
	if _, err := fetch(t.Context(), allowed, digestOf(nil), 0, -1); err != nil {
		t.Errorf("fetch with the token service in AuthHosts = %v", err)
	}
	if want := base64.StdEncoding.EncodeToString([]byte("ann:" + password)); !strings.Contains(stolen, "Basic "+want) {
		t.Errorf("a token service in AuthHosts got %q; want Basic credentials", stolen)
	}
}

func TestATokenServiceOrRedirectWithoutTLSIsRefused(t *testing.T) {
	tokens := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"t"}`)) })
	config, ca, err := hub.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { challengeTo(w, tokens.URL) }))
	r.TLS = config
	r.StartTLS()
	defer r.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	c := client(t, r.URL, func(cfg *upstream.Config) { cfg.CAFile = file })
	if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("fetch = %v; want ErrUnauthorized", err)
	}
	r.Config.Handler = http.RedirectHandler(tokens.URL, http.StatusTemporaryRedirect)
	_, _ = fetch(t.Context(), c, digestOf(nil), 0, -1) // still with what was learned, which is forgotten by that
	if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("fetch with a redirect = %v; want ErrUnavailable", err)
	}
	if got := tokens.requests(); len(got) != 0 {
		t.Errorf("the host without TLS was asked: %v", got)
	}
	r2 := client(t, r.URL, nil)
	if err := r2.Ping(t.Context()); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("Ping without the CA = %v; want ErrUnavailable", err)
	}
	if n := r2.Stats().Retries; n != 0 {
		t.Errorf("a certificate that is not trusted was tried %d times more; want 0", n)
	}
}

func TestABearerTokenDoesNotFollowARedirect(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{}
	note := func(who string, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[who] += q.Header.Get("Authorization") + q.Header.Get("Cookie") + q.Header.Get("Referer")
	}
	cdn := serve(t, func(w http.ResponseWriter, q *http.Request) { note("cdn", q); _, _ = w.Write([]byte("data")) })
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"access_token":"sesame"}`))
		case q.Header.Get("Authorization") != "Bearer sesame":
			challengeTo(w, r.URL+"/token")
		case strings.HasPrefix(q.URL.Path, "/v2/"):
			http.Redirect(w, q, "/here", http.StatusFound)
		default: // the same origin: the token may be seen
			note("registry", q)
			http.Redirect(w, q, cdn.URL+"/x?signature=secret", http.StatusTemporaryRedirect)
		}
	})
	c := client(t, r.URL, func(cfg *upstream.Config) { cfg.Username, cfg.Password = "ann", password })
	got, err := fetch(t.Context(), c, digestOf([]byte("data")), 0, -1)
	if err != nil || string(got) != "data" {
		t.Errorf("fetch = %q, %v; want data", got, err)
	}
	if seen["cdn"] != "" || seen["registry"] != "Bearer sesame" {
		t.Errorf("seen = %q; want the token at the registry's own origin only", seen)
	}
}

func TestRedirectsAreBoundedAndKeepToTLS(t *testing.T) {
	for location, wanted := range map[string]int{
		"/v2/loop":                      6, // the registry's own answer and 5 hops
		"ftp://127.0.0.1/x":             1,
		"":                              1,
		"http://user:secret@127.0.0.1/": 1,
		"http://%zz/":                   1,
	} {
		r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Location"] = []string{location}
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		c := client(t, r.URL, nil)
		_, err := fetch(t.Context(), c, digestOf(nil), 0, -1)
		if !errors.Is(err, oci.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("redirect to %q: %v; want ErrUnavailable that repeats no secret", location, err)
		}
		if n := len(r.requests()); n != wanted {
			t.Errorf("redirect to %q: %d requests; want %d", location, n, wanted)
		}
	}
}

func TestBadTokenAnswersAreUnavailable(t *testing.T) {
	for name, answer := range map[string]string{
		"garbage":       `<html>`,
		"cut":           `{"token":"abc`,
		"no token":      `{"expires_in":300}`,
		"line break":    `{"token":"a\r\nX-Evil: 1"}`,
		"huge":          `{"token":"` + strings.Repeat("x", 1<<20) + `"}`,
		"large token":   `{"token":"` + strings.Repeat("x", 100<<10) + `"}`,
		"another shape": `["token"]`,
	} {
		var r *registry
		r = serve(t, func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" {
				_, _ = w.Write([]byte(answer))
				return
			}
			challengeTo(w, r.URL+"/token")
		})
		if _, err := fetch(t.Context(), client(t, r.URL, nil), digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnavailable) {
			t.Errorf("%s: fetch = %v; want ErrUnavailable", name, err)
		}
	}
	for _, realm := range []string{"", "/token", "ftp://127.0.0.1/", "http://%zz", "http://u:p@127.0.0.1/token"} {
		r := serve(t, func(w http.ResponseWriter, _ *http.Request) { challengeTo(w, realm) })
		if _, err := fetch(t.Context(), client(t, r.URL, nil), digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnavailable) {
			t.Errorf("realm %q: fetch = %v; want ErrUnavailable", realm, err)
		}
	}
}

func TestA401AfterATokenEndsThere(t *testing.T) {
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"t","expires_in":300}`))
			return
		}
		challengeTo(w, r.URL+"/token")
	})
	c := client(t, r.URL, nil)
	for range 2 {
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
			t.Errorf("fetch = %v; want ErrUnauthorized", err)
		}
	}
	if n := len(r.requests()); n > 8 {
		t.Errorf("%d requests for two fetches; want at most 8", n)
	}
	none := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if _, err := fetch(t.Context(), client(t, none.URL, nil), digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("fetch of a 401 without a challenge = %v; want ErrUnauthorized", err)
	}
}

func TestBasicCredentialsAreSentOnceAskedFor(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if user, pass, ok := q.BasicAuth(); !ok || user != "ann" || pass != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("data"))
	})
	c := client(t, r.URL, func(cfg *upstream.Config) { cfg.Username, cfg.Password = "ann", password })
	for range 2 {
		if got, err := fetch(t.Context(), c, digestOf([]byte("data")), 0, -1); err != nil || string(got) != "data" {
			t.Errorf("fetch = %q, %v; want data", got, err)
		}
	}
	if n := len(r.requests()); n != 3 {
		t.Errorf("%d requests; want 3: one to learn, then one each", n)
	}
	wrong := client(t, r.URL, func(cfg *upstream.Config) { cfg.Username, cfg.Password = "ann", "x" })
	for range 2 {
		if _, err := fetch(t.Context(), wrong, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
			t.Errorf("fetch with a wrong password = %v; want ErrUnauthorized", err)
		}
	}
	if n := len(r.requests()); n != 6 {
		t.Errorf("%d requests after two with a wrong password; want 6: what was refused is not sent again", n)
	}
	if _, err := fetch(t.Context(), client(t, r.URL, nil), digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("fetch without a password = %v; want ErrUnauthorized", err)
	}
}

func TestCredentialsAreInNoErrorAndNoLog(t *testing.T) {
	// The upstream repeats everything that it is sent, wherever it can.
	var r *registry
	step := 0
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		step++
		echo := q.Header.Get("Authorization") + " " + password
		w.Header().Set("X-Echo", echo)
		switch {
		case q.Header.Get("Authorization") == "" && q.URL.Path != "/token":
			challengeTo(w, r.URL+"/token")
		case q.URL.Path == "/token" && step%2 == 0:
			_, _ = w.Write([]byte(`{"token":"` + password + `"}`))
		default:
			w.WriteHeader([]int{500, 404, 403, 400, 418, 503}[step%6])
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, echo, echo)
		}
	})
	log := &logged{}
	cfg := upstream.Default()
	cfg.URL, cfg.Username, cfg.Password, cfg.RetryWait, cfg.BreakerFailures = r.URL, "ann", password, time.Millisecond, 2
	c, err := upstream.New(cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var text strings.Builder
	for range 12 {
		_, err := fetch(t.Context(), c, digestOf(nil), 0, -1)
		_, _, _, err2 := c.Manifest(t.Context(), repo, "1", nil)
		fmt.Fprintln(&text, err, err2)
	}
	fmt.Fprintf(&text, "%v %+v %#v", cfg, cfg, cfg.Password)
	slog.New(slog.NewTextHandler(log, nil)).Info("config", "password", cfg.Password, "all", cfg)
	bad := cfg
	bad.URL = "http://ann:" + password + "@host:x/"
	bad.Proxy = "gopher://ann:" + password + "@proxy"
	fmt.Fprintln(&text, bad.Validate())
	all := text.String() + log.String()
	coded := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
	if strings.Contains(all, password) || strings.Contains(all, coded) {
		t.Errorf("the password shows in:\n%s", all)
	}
	if !strings.Contains(log.String(), "retried") {
		t.Errorf("the log says nothing of retries, so this test proves nothing:\n%s", log)
	}
}

func TestStatusesMeanWhatCallersTellApart(t *testing.T) {
	status, headers, body := 0, http.Header{}, ""
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), headers)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	c := client(t, r.URL, func(cfg *upstream.Config) { cfg.BreakerFailures = 1000 })
	for _, row := range []struct {
		status   int
		body     string
		want     error
		requests int
	}{
		{404, "", oci.ErrNotFound, 1},
		{404, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, oci.ErrNotFound, 1},
		{404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, oci.ErrNameUnknown, 1},
		{404, "<html>not found", oci.ErrNotFound, 1},
		{403, "", oci.ErrDenied, 1},
		{400, "", oci.ErrUnavailable, 1},
		{405, "", oci.ErrUnsupported, 1},
		{416, "", upstream.ErrNoRange, 1},
		{418, "", oci.ErrUnavailable, 1},
		{204, "", oci.ErrUnavailable, 1},
		{500, "", oci.ErrUnavailable, 4},
		{502, "", oci.ErrUnavailable, 4},
		{504, "", oci.ErrUnavailable, 4},
	} {
		status, body = row.status, row.body
		before := len(r.requests())
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, row.want) {
			t.Errorf("status %d %s: %v; want %v", row.status, row.body, err, row.want)
		}
		if n := len(r.requests()) - before; n != row.requests {
			t.Errorf("status %d: %d requests; want %d", row.status, n, row.requests)
		}
	}
	status, body, headers = 503, "", http.Header{"Retry-After": {"30"}}
	before, began := len(r.requests()), time.Now()
	if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnavailable) || len(r.requests()) != before+1 {
		t.Errorf("503 with Retry-After 30: %v after %d requests; want ErrUnavailable after 1", err, len(r.requests())-before)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("503 with Retry-After 30 took %v; want no waiting", took)
	}
}

func TestRangesThatWereNotAskedForAreRefused(t *testing.T) {
	headers := http.Header{}
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), headers)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 10))
	})
	c := client(t, r.URL, nil)
	for _, row := range []struct {
		off, n int64
		given  string
		good   bool
	}{
		{100, 10, "bytes 100-109/200", true},
		{100, 10, "bytes 100-109/*", true},
		{100, -1, "bytes 100-109/110", true},
		{100, 20, "bytes 100-109/200", true}, // a part of the range is allowed
		{100, 10, "bytes 99-108/200", false},
		{100, 10, "bytes 100-110/200", false},
		{100, 10, "bytes 100-104/200", false}, // Content-Length says 10
		{100, 5, "bytes 100-109/200", false},
		{0, -1, "bytes 0-9/10", false},
		{100, 10, "bytes */200", false},
		{100, 10, "", false},
	} {
		headers = http.Header{"Content-Range": {row.given}}
		got, err := fetch(t.Context(), c, digestOf(nil), row.off, row.n)
		if row.good && (err != nil || len(got) != 10) || !row.good && !errors.Is(err, oci.ErrUnavailable) {
			t.Errorf("%d bytes at %d answered by %q: %d bytes, %v; good is %v", row.n, row.off, row.given, len(got), err, row.good)
		}
	}
	for _, bad := range [][2]int64{{-1, 1}, {0, 0}, {1 << 62, 1 << 62}} {
		if _, err := c.Blob(t.Context(), repo, digestOf(nil), bad[0], bad[1]); err == nil {
			t.Errorf("Blob(%d, %d) is no error", bad[0], bad[1])
		}
	}
	headers = http.Header{"Content-Encoding": {"gzip"}}
	if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("an encoded answer: %v; want ErrUnavailable", err)
	}
}

func TestCertainlyWrongSettingsAreAllReported(t *testing.T) {
	cfg := upstream.Config{Name: "", Password: "x", URL: "ftp://x", Proxy: "x", BytesPerSecond: -1}
	err := cfg.Validate()
	for _, key := range []string{"name", "username", "proxy", "max_concurrent", "bytes_per_second", "stall_timeout", "breaker_failures"} {
		if err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("Validate says nothing of %s: %v", key, err)
		}
	}
	for _, url := range []string{"ftp://x", "registry", "https://u:p@x", "https://x?y", "https://x#y", "http://%"} {
		cfg := upstream.Default()
		cfg.URL = url
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "url:") {
			t.Errorf("Validate with URL %q = %v; want an error about url", url, err)
		}
	}
	if err := upstream.Default().Validate(); err != nil {
		t.Errorf("Default is not valid: %v", err)
	}
	cfg = upstream.Default()
	cfg.CAFile = filepath.Join(t.TempDir(), "none")
	if _, err := upstream.New(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New with a CA file that is not there = %v; want os.ErrNotExist", err)
	}
	cfg.CAFile = filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(cfg.CAFile, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.New(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("New with a CA file without a certificate is no error")
	}
}
