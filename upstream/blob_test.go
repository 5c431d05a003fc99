package upstream_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestASignedURLMayBeForGetAlone(t *testing.T) {
	cdn := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Range", "bytes 0-0/12345")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write([]byte("x"))
	})
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, cdn.URL, http.StatusTemporaryRedirect)
	})
	if size, err := client(t, r.URL, nil).StatBlob(t.Context(), repo, digestOf(nil)); err != nil || size != 12345 {
		t.Errorf("StatBlob = %d, %v; want 12345 by GET", size, err)
	}
}

func TestACDNThatIsDownIsReplacedByTheRegistrysNextAnswer(t *testing.T) {
	good := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("data")) })
	gone := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("data")) })
	target := gone.URL
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, target, http.StatusTemporaryRedirect)
	})
	c := client(t, r.URL, nil)
	get := func() error { _, err := fetch(t.Context(), c, digestOf([]byte("data")), 0, -1); return err }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil || len(r.requests()) != 1 || len(gone.requests()) != 2 {
		t.Fatalf("second fetch = %v; registry asked %d times, CDN %d; want 1, 2", err, len(r.requests()), len(gone.requests()))
	}
	if body, err := c.Blob(t.Context(), "library/other", digestOf([]byte("data")), 0, -1); err != nil || len(r.requests()) != 2 {
		t.Fatalf("fetch through another repository = %v; registry asked %d times; want 2: its right is its own", err, len(r.requests()))
	} else {
		_ = body.Close()
	}
	gone.Close()
	target = good.URL
	if err := get(); err != nil {
		t.Errorf("fetch with a remembered CDN that is gone = %v", err)
	}
	if len(r.requests()) != 3 || len(good.requests()) != 1 {
		t.Errorf("registry asked %d times, the other CDN %d; want 3, 1", len(r.requests()), len(good.requests()))
	}
}

func TestRedirectsAreNotRememberedWhenToldSo(t *testing.T) {
	cdn := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("data")) })
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, cdn.URL, http.StatusTemporaryRedirect)
	})
	c := client(t, r.URL, func(cfg *upstream.Config) { cfg.RedirectTTL = 0 })
	for range 2 {
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.requests()); n != 2 {
		t.Errorf("registry asked %d times; want 2", n)
	}
	body, err := c.Blob(t.Context(), "library/other", digestOf(nil), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
}

func TestStreamsOfOddAnswers(t *testing.T) {
	data := random(100)
	for name, row := range map[string]struct {
		n     int64
		serve func(w http.ResponseWriter, off int)
		good  bool
	}{
		"no length": {-1, func(w http.ResponseWriter, off int) {
			w.(http.Flusher).Flush() // chunked
			_, _ = w.Write(data)
		}, true},
		"a part at a time": {100, func(w http.ResponseWriter, off int) {
			end := min(off+30, 100)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/100", off, end-1))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[off:end])
		}, true},
		"more asked than there is": {1000, func(w http.ResponseWriter, off int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-99/100", off))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[off:])
		}, true},
		"size changes": {100, func(w http.ResponseWriter, off int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+29, 200+off))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[off : off+30])
		}, false},
	} {
		r := serve(t, func(w http.ResponseWriter, q *http.Request) {
			off := 0
			_, _ = fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &off)
			row.serve(w, off)
		})
		s, err := client(t, r.URL, nil).Stream(t.Context(), repo, digestOf(data), 0, row.n)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(s)
		_ = s.Close()
		if row.good {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			equal(t, name, got, data)
		} else if !errors.Is(err, oci.ErrUnavailable) {
			t.Errorf("%s: %v; want ErrUnavailable", name, err)
		}
	}
}

func TestARangeOfAnotherLengthThanSaidIsNoCleanEnd(t *testing.T) {
	for _, sent := range []int{5, 9, 11, 5000} {
		r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 100-109/200")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush() // chunked: only the Content-Range says how many
			_, _ = w.Write(make([]byte, sent))
		})
		if got, err := fetch(t.Context(), client(t, r.URL, nil), digestOf(nil), 100, 10); !errors.Is(err, oci.ErrUnavailable) {
			t.Errorf("10 bytes announced, %d sent: %d came, %v; want ErrUnavailable", sent, len(got), err)
		}
	}
}

func TestAManifestMayLiveBehindARedirect(t *testing.T) {
	region := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "" {
			t.Error("the token followed the redirect")
		}
		w.Header().Set("Content-Type", oci.MediaTypeOCIManifest)
		_, _ = w.Write([]byte(`{}`))
	})
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"token":"t"}`))
		case q.Header.Get("Authorization") == "":
			challengeTo(w, r.URL+"/token")
		default:
			http.Redirect(w, q, region.URL+q.URL.Path, http.StatusTemporaryRedirect)
		}
	})
	if _, raw, _, err := client(t, r.URL, nil).Manifest(t.Context(), repo, "1", nil); err != nil || string(raw) != "{}" {
		t.Errorf("Manifest = %q, %v", raw, err)
	}
}

func TestARegistryMayWantAnotherScope(t *testing.T) {
	var scopes []string
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/token":
			scope := strings.Join(q.URL.Query()["scope"], "|")
			scopes = append(scopes, scope)
			fmt.Fprintf(w, `{"token":%q}`, "for-"+scope)
		case q.Header.Get("Authorization") != "Bearer for-odd:a:pull|odd:b:pull":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,scope="odd:a:pull odd:b:pull"`, r.URL+"/token"))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = w.Write([]byte("data"))
		}
	})
	c := client(t, r.URL, nil)
	for range 3 {
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	if len(scopes) != 1 {
		t.Errorf("tokens were fetched for %q; want one, for the scope that the registry named", scopes)
	}
}
