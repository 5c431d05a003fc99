package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestLaterRequestsCostOneRoundTrip(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 3<<20)
	other, _ := putManifest(t, h, "library/other", "1")
	c := client(t, h.URL(), nil)
	got, err := fetch(t.Context(), c, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob", got, data)
	first := h.Stats()
	if first.Challenges != 1 || first.TokenRequests != 1 || first.Redirects != 1 {
		t.Errorf("first blob: %d challenges, %d tokens, %d redirects; want 1 of each", first.Challenges, first.TokenRequests, first.Redirects)
	}
	if got, err = fetch(t.Context(), c, d, 1<<20, 100); err != nil {
		t.Fatal(err)
	}
	equal(t, "range", got, data[1<<20:][:100])
	if _, _, _, err := c.Manifest(t.Context(), "library/other", other.String(), nil); err != nil {
		t.Fatal(err)
	}
	last := h.Stats()
	if last.Challenges != 1 || last.TokenRequests != 2 || last.Redirects != 1 {
		t.Errorf("after a range and another repository: %d challenges, %d tokens, %d redirects; want 1, 2 (one a repository), 1",
			last.Challenges, last.TokenRequests, last.Redirects)
	}
	s := c.Stats()
	want := upstream.Requests{Token: 2, Manifest: 1, Blob: 4} // 401, redirect, bytes; range
	if s.Requests != want || s.Redirects != 1 || s.Bytes < int64(len(data)+100) {
		t.Errorf("Stats = %+v; want %+v, 1 redirect, at least %d bytes", s, want, len(data)+100)
	}
}

func TestManyFirstRequestsShareOneToken(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 1000)
	c := client(t, h.URL(), nil)
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.MustFault(hub.Fault{Kind: hub.Token, Do: hub.Delay, Wait: 100 * time.Millisecond})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if got, err := fetch(t.Context(), c, d, 0, -1); err != nil || len(got) != len(data) {
				t.Errorf("fetch = %d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
	if s := h.Stats(); s.TokenRequests != 1 || s.Challenges != 1 {
		t.Errorf("%d tokens and %d challenges for 16 requests after a ping; want 1 and 1 (the ping's)", s.TokenRequests, s.Challenges)
	}
}

func TestATokenThatExpiresOnTheWayIsRenewed(t *testing.T) {
	h := startHub(t, hub.Config{TokenTTL: 50 * time.Millisecond, NoRedirect: true})
	d, data := put(t, h, repo, 1000)
	c := client(t, h.URL(), nil)
	for range 3 {
		got, err := fetch(t.Context(), c, d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "blob", got, data)
		time.Sleep(60 * time.Millisecond) // the token's life
	}
}

func TestPrivateRepositoriesWantTheRightPassword(t *testing.T) {
	h := startHub(t, hub.Config{
		Users: map[string]string{"ann": "open sesame", "bob": "b"}, Private: map[string][]string{repo: {"ann"}},
	})
	d, data := put(t, h, repo, 1000)
	as := func(name, password string) *upstream.Client {
		return client(t, h.URL(), func(cfg *upstream.Config) { cfg.Username, cfg.Password = name, upstream.Secret(password) })
	}
	got, err := fetch(t.Context(), as("ann", "open sesame"), d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob", got, data)
	for who, c := range map[string]*upstream.Client{"nobody": as("", ""), "ann with a wrong password": as("ann", "x"), "bob": as("bob", "b")} {
		if _, err := fetch(t.Context(), c, d, 0, -1); !errors.Is(err, oci.ErrUnauthorized) && !errors.Is(err, oci.ErrDenied) {
			t.Errorf("fetch by %s = %v; want ErrUnauthorized or ErrDenied", who, err)
		}
	}
}

func TestAnExpiredRedirectIsAskedForAgain(t *testing.T) {
	h := startHub(t, hub.Config{RedirectTTL: 50 * time.Millisecond})
	d, data := put(t, h, repo, 1000)
	c := client(t, h.URL(), nil)
	for range 2 {
		got, err := fetch(t.Context(), c, d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "blob", got, data)
		time.Sleep(60 * time.Millisecond) // the redirect's life
	}
	h.MustFault(hub.Fault{Kind: hub.Redirect, Do: hub.Expired, Count: 1})
	if _, err := fetch(t.Context(), c, d, 0, -1); err != nil {
		t.Errorf("fetch after one redirect that had expired at once = %v", err)
	}
	h.MustFault(hub.Fault{Kind: hub.Redirect, Do: hub.Expired})
	time.Sleep(60 * time.Millisecond)
	if _, err := fetch(t.Context(), c, d, 0, -1); !errors.Is(err, oci.ErrUnavailable) || errors.Is(err, oci.ErrDenied) {
		t.Errorf("fetch when all redirects have expired = %v; want ErrUnavailable", err)
	}
}

func TestAStreamGoesOnAtTheByteWhereItWasCut(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 3<<20)
	c := client(t, h.URL(), nil)
	for _, at := range []int64{0, 1, 1 << 20, 3<<20 - 1} {
		h.Reset()
		h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: at, Count: 1})
		s, err := c.Stream(t.Context(), repo, d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		_ = s.Close()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "stream", got, data)
		sent := h.Stats().Blobs[d.String()]
		if sent.Bytes != int64(len(data)) || s.Size() != int64(len(data)) {
			t.Errorf("cut at %d: %d bytes were sent for a blob of %d, Size() = %d; want each byte once", at, sent.Bytes, len(data), s.Size())
		}
	}
	part, err := c.Stream(t.Context(), repo, d, 1000, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	got, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "stream of a range", got, data[1000:6000])
}

func TestABodyIsNotResumedAndSaysThatItWasCut(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 1<<20)
	c := client(t, h.URL(), nil)
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 70000, Count: 1})
	got, err := fetch(t.Context(), c, d, 0, -1)
	if !errors.Is(err, oci.ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("fetch of a blob that is cut = %v; want ErrUnavailable", err)
	}
	equal(t, "bytes before the cut", got, data[:70000])
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.WrongLength, At: -84, Count: 1})
	if got, err := fetch(t.Context(), c, d, 0, -1); err != nil || len(got) != len(data)-84 {
		t.Errorf("fetch with an announced length that is 84 short = %d bytes, %v; want %d: the digest tells", len(got), err, len(data)-84)
	}
}

func TestWithoutRangeTheCallerDecides(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 1<<20)
	c := client(t, h.URL(), nil)
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.NoRange})
	body, err := c.Blob(t.Context(), repo, d, 1000, 10)
	if err != nil {
		t.Fatal(err)
	}
	if body.Ranged || body.Offset != 0 || body.Size != int64(len(data)) || body.Len() != int64(len(data)) {
		t.Errorf("Blob of a range = %+v; want Ranged false, Offset 0, Size %d", body, len(data))
	}
	_ = body.Close()
	tail, err := c.Stream(t.Context(), repo, d, 1000, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(tail); err != nil || !bytes.Equal(got, data[1000:]) || tail.End() != int64(len(data)) {
		t.Errorf("Stream of a range = %d bytes to %d, %v; want all from byte 1000 on", len(got), tail.End(), err)
	}
	_ = tail.Close()
	if got := c.Stats().Reread; got != 1000 {
		t.Errorf("Reread = %d; want the 1000 bytes before the range", got)
	}
	s, err := c.Stream(t.Context(), repo, d, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the whole, of which the beginning was asked", got, data)
	if s.End() != int64(len(data)) {
		t.Errorf("End() = %d; want %d, since the answer has all of it", s.End(), len(data))
	}
	_ = s.Close()

	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 1000, Count: 1})
	s, err = c.Stream(t.Context(), repo, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err = io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob after a cut, begun anew", got, data)
}

func TestBurstsOfErrorsAreOutlasted(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 1000)
	m, _ := putManifest(t, h, repo, "1")
	c := client(t, h.URL(), nil)
	for _, kind := range []hub.Kind{hub.Token, hub.Redirect, hub.Blob} {
		h.MustFault(hub.Fault{Kind: kind, Do: hub.Status, Status: 500, Count: 1})
	}
	got, err := fetch(t.Context(), c, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob", got, data)
	h.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Status, Status: 503, Count: 3})
	if desc, _, err := c.Resolve(t.Context(), repo, "1", nil); err != nil || desc.Digest != m {
		t.Errorf("ResolveTag after three 503s = %v, %v; want %s", desc, err, m)
	}
	if s := c.Stats(); s.Retries != 6 {
		t.Errorf("%d retries; want 6", s.Retries)
	}
	h.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Status, Status: 500})
	if _, _, err := c.Resolve(t.Context(), repo, "1", nil); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("ResolveTag with 500 for ever = %v; want ErrUnavailable", err)
	}
}

func TestARefusedTurnIsPassedOnAtOnce(t *testing.T) {
	h := startHub(t, hub.Config{PullLimit: 100})
	putManifest(t, h, repo, "1")
	c := client(t, h.URL(), nil)
	if _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); err != nil {
		t.Fatal(err)
	}
	if limit := c.Stats().RateLimit; limit.Limit != 100 || limit.Remaining != 99 || limit.Window != 6*time.Hour || limit.Source == "" {
		t.Errorf("Stats().RateLimit = %+v; want 99 of 100 in 6 h, with a source", limit)
	}
	h.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Status, Status: http.StatusTooManyRequests, Wait: time.Minute})
	began := time.Now()
	_, _, _, err := c.Manifest(t.Context(), repo, "1", nil)
	limit, ok := errors.AsType[*oci.TooManyRequestsError](err)
	if !ok || limit.RetryAfter != time.Minute {
		t.Fatalf("Manifest with a 429 = %v; want TooManyRequestsError after 1m", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Manifest with a 429 took %v; want no waiting", took)
	}
}

func TestAnUpstreamThatIsDownIsNoReasonNotToStart(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, _ := put(t, h, repo, 1000)
	down := h.MustFault(hub.Fault{Do: hub.Refuse})
	c := client(t, h.URL(), func(cfg *upstream.Config) { cfg.BreakerWait = time.Millisecond })
	if err := c.Ping(t.Context()); !errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("Ping = %v; want ErrUnavailable", err)
	}
	if err := h.ClearFault(down); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), c, d, 0, -1); err != nil {
		t.Errorf("fetch when it is up again = %v", err)
	}
}

func TestStatBlobMovesNoBlob(t *testing.T) {
	for name, cfg := range map[string]hub.Config{"behind redirects": {}, "direct": {NoRedirect: true}} {
		h := startHub(t, cfg)
		d, data := put(t, h, repo, 5<<20)
		c := client(t, h.URL(), nil)
		if size, err := c.StatBlob(t.Context(), repo, d); err != nil || size != int64(len(data)) {
			t.Errorf("%s: StatBlob = %d, %v; want %d", name, size, err, len(data))
		}
		h.MustFault(hub.Fault{Kind: hub.Blob, Method: http.MethodHead, Do: hub.Status, Status: 405})
		if size, err := c.StatBlob(t.Context(), repo, d); err != nil || size != int64(len(data)) {
			t.Errorf("%s: StatBlob without HEAD = %d, %v; want %d", name, size, err, len(data))
		}
		if sent := h.Stats().BlobBytes; sent > 1 {
			t.Errorf("%s: %d bytes of the blob were sent; want 1 at most", name, sent)
		}
		if _, err := c.StatBlob(t.Context(), repo, digestOf([]byte("other"))); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: StatBlob of an unknown blob = %v; want ErrNotFound", name, err)
		}
	}
}

func TestTagsAreResolvedByHeadAlone(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, raw := putManifest(t, h, repo, "1")
	c := client(t, h.URL(), nil)
	desc, got, err := c.Resolve(t.Context(), repo, "1", nil)
	want := oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: d, Size: int64(len(raw))}
	if err != nil || got != nil || desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType {
		t.Errorf("ResolveTag = %+v, %d bytes, %v; want %+v by HEAD", desc, len(got), err, want)
	}
	if s := h.Stats(); s.ManifestGets != 0 {
		t.Errorf("%d GETs that a pull limit counts; want 0", s.ManifestGets)
	}
	h.MustFault(hub.Fault{Kind: hub.Manifest, Method: http.MethodHead, Do: hub.Status, Status: 405})
	desc, got, err = c.Resolve(t.Context(), repo, "1", nil)
	if err != nil || desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType {
		t.Errorf("ResolveTag without HEAD = %+v, %v; want %+v", desc, err, want)
	}
	equal(t, "manifest of the fallback", got, raw)
	if _, _, err := c.Resolve(t.Context(), repo, "2", nil); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("ResolveTag of an unknown tag = %v; want ErrNotFound", err)
	}
	if _, _, err := c.Resolve(t.Context(), repo, "../2", nil); !errors.Is(err, oci.ErrTagInvalid) {
		t.Errorf("ResolveTag of no tag = %v; want ErrTagInvalid", err)
	}
}

func TestTagsComeByPage(t *testing.T) {
	h := startHub(t, hub.Config{})
	for _, tag := range []string{"a", "b", "c"} {
		putManifest(t, h, repo, tag)
	}
	c := client(t, h.URL(), nil)
	raw, link, err := c.Tags(t.Context(), repo, 2, "")
	if err != nil || link == "" || len(raw) == 0 {
		t.Fatalf("Tags(2, \"\") = %q, %q, %v; want a page with a link", raw, link, err)
	}
	raw, link, err = c.Tags(t.Context(), repo, 2, "b")
	if err != nil || link != "" || len(raw) == 0 {
		t.Errorf("Tags(2, b) = %q, %q, %v; want the last page", raw, link, err)
	}
}

func TestACallerWhoLeavesGetsItsOwnError(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, _ := put(t, h, repo, 1<<20)
	c := client(t, h.URL(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.HangAt, At: 1000})
	body, err := c.Blob(ctx, repo, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) || errors.Is(err, oci.ErrUnavailable) {
		t.Errorf("read after the caller left = %v; want context.Canceled alone", err)
	}
	if s := c.Stats(); s.Failures != 0 {
		t.Errorf("%d failures were counted; want none: the upstream did nothing wrong", s.Failures)
	}
}
