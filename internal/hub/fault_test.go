package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
)

// faulty is a Hub with one image, its layer's path and bytes, and a client that may pull it.
func faulty(t *testing.T, cfg hub.Config) (h *hub.Hub, c *client, path string, raw []byte) {
	t.Helper()
	h = start(t, cfg)
	image := random(t, h, "library/app", "1", 300_000)
	return h, puller(t, h, "library/app"), "/v2/library/app/blobs/" + image.Layers[0].Digest.String(), fileOf(t, image.Layers[0])
}

const manifestPath = "/v2/library/app/manifests/1"

func TestABodyIsCutExactlyOnceAndCanBeResumed(t *testing.T) {
	for _, cfg := range []hub.Config{{}, {NoRedirect: true}} {
		h, c, path, raw := faulty(t, cfg)
		h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 123_456, Count: 1})
		r := c.do("GET", path)
		if r.err == nil || !bytes.Equal(r.body, raw[:123_456]) {
			t.Fatalf("got %d bytes, error %v; want 123456 and an error", len(r.body), r.err)
		}
		r = c.want(c.do("GET", path, "Range", "bytes=123456-"), 206)
		if !bytes.Equal(r.body, raw[123_456:]) {
			t.Errorf("resuming gave %d other bytes", len(r.body))
		}
	}
}

func TestOffsetsAreThoseOfTheBlob(t *testing.T) {
	h, c, path, raw := faulty(t, hub.Config{})
	id := h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.FlipAt, At: 1000})
	wrong := bytes.Clone(raw)
	wrong[1000] ^= 0xff
	if r := c.want(c.do("GET", path), 200); !bytes.Equal(r.body, wrong) {
		t.Error("the byte at 1000 alone should be wrong")
	}
	if r := c.want(c.do("GET", path, "Range", "bytes=900-1099"), 206); !bytes.Equal(r.body, wrong[900:1100]) {
		t.Error("the byte at 1000 alone should be wrong in a range as well")
	}
	if r := c.want(c.do("GET", path, "Range", "bytes=1001-"), 206); !bytes.Equal(r.body, raw[1001:]) {
		t.Error("a range behind the wrong byte should be right")
	}
	if err := h.ClearFault(id); err != nil {
		t.Fatal(err)
	}
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 2000})
	if r := c.do("GET", path, "Range", "bytes=1500-"); r.err == nil || !bytes.Equal(r.body, raw[1500:2000]) {
		t.Errorf("a range over the cut has %d bytes, error %v; want 500 and an error", len(r.body), r.err)
	}
}

func TestStatusBurstsEndAfterTheirCount(t *testing.T) {
	h, c, path, _ := faulty(t, hub.Config{})
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.Status, Status: 500, Count: 2})
	h.MustFault(hub.Fault{Kind: hub.Manifest, Method: "GET", Do: hub.Status, Status: 429, Wait: 7 * time.Second, Count: 1})
	h.MustFault(hub.Fault{Kind: hub.Manifest, Method: "HEAD", Do: hub.Status, Status: 405})
	c.want(c.do("GET", path), 500)
	c.want(c.do("GET", path), 500)
	c.want(c.do("GET", path), 200)
	if r := c.want(c.do("GET", manifestPath), 429); r.header.Get("Retry-After") != "7" {
		t.Errorf("Retry-After is %q; want 7", r.header.Get("Retry-After"))
	}
	c.want(c.do("GET", manifestPath), 200)
	c.want(c.do("HEAD", manifestPath), 405)
	if got := h.Stats().Faulted; got != 4 {
		t.Errorf("%d requests met a fault; want 4", got)
	}
}

func TestLengthsRangesAndRedirectsGoWrong(t *testing.T) {
	h, c, path, raw := faulty(t, hub.Config{})
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.WrongLength, At: -10, Count: 1})
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.NoRange})
	if r := c.want(c.do("GET", path, "Range", "bytes=500-"), 200); !bytes.Equal(r.body, raw[:len(raw)-10]) {
		t.Errorf("got %d bytes; want 10 fewer than %d", len(r.body), len(raw))
	}
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.WrongLength, At: 10, Count: 1})
	r := c.want(c.do("GET", path), 200)
	if len(r.body) != len(raw)+10 || r.header.Get("Accept-Ranges") != "" {
		t.Errorf("got %d bytes, Accept-Ranges %q; want %d and none", len(r.body), r.header.Get("Accept-Ranges"), len(raw)+10)
	}
	h.MustFault(hub.Fault{Kind: hub.Redirect, Do: hub.Expired, Count: 1})
	c.want(c.do("GET", path), 403)
	c.want(c.do("GET", path), 200)
}

func TestSlowAndDelayTakeTheirTime(t *testing.T) {
	h, c, path, _ := faulty(t, hub.Config{})
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.Slow, Rate: 1_000_000, Count: 1})
	h.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Delay, Wait: 100 * time.Millisecond})
	begin := time.Now()
	c.want(c.do("GET", path), 200)
	if took := time.Since(begin); took < 280*time.Millisecond {
		t.Errorf("300 KB at 1 MB/s took %v; want 300 ms", took)
	}
	begin = time.Now()
	c.want(c.do("GET", manifestPath), 200)
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("a delayed manifest took %v; want 100 ms", took)
	}
}

func TestAHangEndsWhenTheFaultIsClearedTheClientLeavesOrTheHubCloses(t *testing.T) {
	h, c, path, raw := faulty(t, hub.Config{})
	id := h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.HangAt, At: 1000})
	result := make(chan reply, 1)
	go func() { result <- c.do("GET", path) }()
	waitFor(t, func() bool { return h.Stats().BlobBytes == 1000 })
	if err := h.ClearFault(id); err != nil {
		t.Fatal(err)
	}
	if r := <-result; r.err != nil || !bytes.Equal(r.body, raw) {
		t.Errorf("after clearing: %d bytes, %v; want all", len(r.body), r.err)
	}

	h.MustFault(hub.Fault{Do: hub.Hang}) // of kind Any: meets requests before their token is looked at
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := c.doCtx(ctx, "GET", "/v2/"); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("a hanging request ended with %d, %v; want the deadline", r.status, r.err)
	}
	before := h.Stats().Faulted
	go func() { result <- c.do("GET", manifestPath) }()
	waitFor(t, func() bool { return h.Stats().Faulted > before })
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if r := <-result; r.err == nil {
		t.Errorf("a request that hung at Close got status %d; want an error", r.status)
	}
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited 10 s in vain")
		}
	}
}

func TestDownDropsConnectionsAndRefuseClosesThePort(t *testing.T) {
	h, c, path, _ := faulty(t, hub.Config{})
	for _, do := range []hub.Effect{hub.Down, hub.Refuse} {
		c.want(c.do("GET", manifestPath), 200)
		id := h.MustFault(hub.Fault{Kind: hub.Manifest, Do: do})
		r := c.do("GET", manifestPath)
		if r.err == nil || do == hub.Refuse && !errors.Is(r.err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %d, %v; want an error of the connection", do, r.status, r.err)
		}
		c.login("", "", "repository:library/app:pull") // the token service is up
		if err := h.ClearFault(id); err != nil {
			t.Fatal(err)
		}
		c.want(c.do("GET", manifestPath), 200)
	}
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.Refuse})
	c.want(c.do("HEAD", path), 200)
	if r := c.do("GET", path); !errors.Is(r.err, syscall.ECONNREFUSED) {
		t.Errorf("with the CDN's port closed: %d, %v; want connection refused", r.status, r.err)
	}
}

func TestTheAdminAPISetsFaultsAndShowsCounters(t *testing.T) {
	h, c, path, raw := faulty(t, hub.Config{AdminListen: "127.0.0.1:0"})
	call := func(method, path, body string, want int) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, h.AdminURL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var out bytes.Buffer
		_, _ = out.ReadFrom(resp.Body)
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s %s; want %d", method, path, resp.Status, out.Bytes(), want)
		}
		return out.Bytes()
	}
	call("POST", "/hub/fault", `{"kind":"blob","do":"cut-at","at":10,"count":1}`, 200)
	call("POST", "/hub/fault", `{"kind":"token","do":"delay","wait":"1ms"}`, 200)
	call("POST", "/hub/fault", `{"do":"nonsense"}`, 400)
	call("POST", "/hub/fault", `{"do":"delay","wait":"soon"}`, 400)
	if got := string(call("GET", "/hub/fault", "", 200)); !strings.Contains(got, `"id":"2","kind":"token","do":"delay","wait":"1ms"`) {
		t.Errorf("the faults in force are %s", got)
	}
	if r := c.do("GET", path); len(r.body) != 10 {
		t.Errorf("got %d bytes; want 10", len(r.body))
	}
	call("DELETE", "/hub/fault", "", 204)
	call("POST", "/hub/rate", `{"rate":100000000}`, 204)
	c.want(c.do("GET", path), 200)
	var s hub.Stats
	if err := json.Unmarshal(call("GET", "/hub/stats", "", 200), &s); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(raw)) + 10; s.BlobBytes != want || s.SocketBytes <= want {
		t.Errorf("%d blob bytes, %d socket bytes; want %d and more", s.BlobBytes, s.SocketBytes, want)
	}
	call("POST", "/hub/reset", "", 204)
	if got := h.Stats().BlobBytes; got != 0 {
		t.Errorf("after reset: %d blob bytes; want 0", got)
	}
}

func FuzzFaultJSON(f *testing.F) {
	f.Add([]byte(`{"kind":"blob","do":"cut-at","at":10,"count":1}`))
	f.Add([]byte(`{"do":"delay","wait":"1.5s"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var first, second hub.Fault
		if json.Unmarshal(raw, &first) != nil || first.Validate() != nil {
			return
		}
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &second); err != nil || first != second {
			t.Errorf("%s became %+v, then %+v (%v)", raw, first, second, err)
		}
	})
}
