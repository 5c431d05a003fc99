package testfarm_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// slow has the stand-in send a blob at so many bytes a second.
func slow(f *testfarm.Farm, d oci.Digest, rate int64) string {
	return f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Method: http.MethodGet, Ref: d.String(), Do: hub.Slow, Rate: rate})
}

// putFile gives the stand-in a blob under any digest, be it right or wrong.
func putFile(t *testing.T, f *testfarm.Farm, repo string, d oci.Digest, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Hub.PutBlobFile(repo, digest.Digest(d.String()), path, int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

// impatient shortens what an upstream and a client are waited for in the middle of a body.
func impatient(_ int, c *node.Config) {
	u := c.Upstreams[oci.DockerHub]
	u.Client.StallTimeout = time.Second
	c.Upstreams[oci.DockerHub] = u
	c.Registry.StallTimeout = 6 * time.Second
}

func TestAnUpstreamThatCutsInTheMiddleIsResumedByRange(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	for name, at := range map[string]int64{"in the middle": 5*mib + 123, "84 bytes before the end": 10*mib - 84, "before the first byte": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 10 * mib
			d := put(t, f, 100+uint64(at), size, "library/cut")
			f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: d.String(), Do: hub.CutAt, At: at, Count: 1})
			pullAt(t, "library/cut", d, f.Nodes...)
			stats := f.Hub.Stats().Blobs[d.String()]
			if stats.Bytes != size {
				t.Errorf("upstream sent %d bytes; want %d, no byte twice", stats.Bytes, size)
			}
			if stats.Gets != 2 || at > 0 && stats.Ranges != 1 {
				t.Errorf("upstream saw %+v; want one GET that was cut and one for the rest", stats)
			}
		})
	}
}

func TestAnUpstreamThatCutsAndKnowsNoRangesIsReadAnew(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size, at = 8 * mib, 5*mib + 123
	d := put(t, f, 110, size, "library/cut")
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: d.String(), Do: hub.CutAt, At: at, Count: 1})
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: d.String(), Do: hub.NoRange})
	pullAt(t, "library/cut", d, f.Nodes...)
	if got := crossed(f, d); got > size+at {
		t.Errorf("upstream sent %d bytes; want at most %d, the blob and what was cut", got, size+at)
	}
}

func TestWhatCannotBeResumedEndsWithoutAByteTooMuch(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: impatient})
	for name, at := range map[string]int64{"in the middle": 5*mib + 123, "84 bytes before the end": 6*mib - 84} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 6 * mib
			data := randomBytes(120+uint64(at), size)
			d := put(t, f, 120+uint64(at), size, "library/broken")
			fault := f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: d.String(), Do: hub.CutAt, At: at})
			var pulls []func() error
			for _, n := range f.Nodes {
				pulls = append(pulls, func() error {
					r, body, err := n.Get("library/broken/blobs/" + d.String())
					switch {
					case r == nil:
						return fmt.Errorf("GET at %s: %w; want an answer", n.ID(), err)
					case err == nil && r.StatusCode == http.StatusOK:
						return fmt.Errorf("GET at %s = 200 with %d bytes and a clean end; want it cut off", n.ID(), len(body))
					case r.StatusCode == http.StatusOK && !bytes.HasPrefix(data, body):
						return fmt.Errorf("GET at %s gave %d bytes that are not the blob's first", n.ID(), len(body))
					case r.StatusCode != http.StatusOK && r.StatusCode != http.StatusServiceUnavailable:
						return fmt.Errorf("GET at %s = %d; want 503 when nothing was sent yet", n.ID(), r.StatusCode)
					}
					return nil
				})
			}
			atOnce(t, pulls...)
			if err := f.Hub.ClearFault(fault); err != nil {
				t.Fatal(err)
			}
			f.Eventually("a pull once the upstream is well", func() bool { return f.Nodes[0].Pull(t.Context(), "library/broken", d) == nil })
			pullAt(t, "library/broken", d, f.Nodes...)
		})
	}
}

func TestABurstOfErrorsIsNoFailedPull(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	for i, kind := range []hub.Kind{hub.Redirect, hub.Blob, hub.Token} {
		d := put(t, f, 130+uint64(i), 2*mib, "library/burst")
		fault := hub.Fault{Kind: kind, Ref: d.String(), Do: hub.Status, Status: http.StatusInternalServerError, Count: 2}
		if kind == hub.Token {
			fault.Ref = ""
		}
		f.Hub.MustFault(fault)
		pullAt(t, "library/burst", d, f.Nodes...)
		if got := crossed(f, d); got != 2*mib {
			t.Errorf("upstream sent %d bytes after errors at %s; want the blob once", got, kind)
		}
	}
}

func TestAnExpiredRedirectIsAskedForAnew(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 4 * mib
	d := put(t, f, 140, size, "library/expired")
	f.Hub.MustFault(hub.Fault{Kind: hub.Redirect, Ref: d.String(), Do: hub.Expired, Count: 1})
	pullAt(t, "library/expired", d, f.Nodes...)
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}

func TestWrongBytesFromUpstreamReachNoClientWhole(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: impatient})
	for name, c := range map[string]struct {
		size  int
		fault hub.Fault
	}{
		"first piece":      {5 * mib, hub.Fault{Do: hub.FlipAt, At: 100}},
		"middle":           {5 * mib, hub.Fault{Do: hub.FlipAt, At: 2*mib + 5}},
		"last byte":        {5 * mib, hub.Fault{Do: hub.FlipAt, At: 5*mib - 1}},
		"small":            {2000, hub.Fault{Do: hub.FlipAt, At: 7}},
		"one piece":        {700 << 10, hub.Fault{Do: hub.FlipAt, At: 7}},
		"too long":         {3 * mib, hub.Fault{Do: hub.WrongLength, At: 10}},
		"too short":        {3 * mib, hub.Fault{Do: hub.WrongLength, At: -10}},
		"small, too short": {3000, hub.Fault{Do: hub.WrongLength, At: -10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := put(t, f, 150+uint64(len(name)*7)+uint64(c.size)+uint64(c.fault.At), c.size, "library/wrong")
			c.fault.Kind, c.fault.Ref, c.fault.Method = hub.Blob, d.String(), http.MethodGet
			fault := f.Hub.MustFault(c.fault)
			var pulls []func() error
			for _, n := range f.Nodes {
				pulls = append(pulls, func() error {
					r := n.Ask(t.Context(), http.MethodGet, "library/wrong/blobs/"+d.String())
					if r.Status == http.StatusOK && r.Err == nil {
						t.Errorf("GET at %s = 200 with %d bytes and a clean end although the upstream lied", n.ID(), r.Size)
					}
					if r.Status == 0 || r.Status == http.StatusNotFound || r.Status == http.StatusInternalServerError {
						t.Errorf("GET at %s = %d %s, %v; want 502, 503 or a cut body", n.ID(), r.Status, r.Body, r.Err)
					}
					return nil
				})
			}
			atOnce(t, pulls...)
			if err := f.Hub.ClearFault(fault); err != nil {
				t.Fatal(err)
			}
			f.Eventually("a pull once the upstream is well", func() bool { return f.Nodes[0].Pull(t.Context(), "library/wrong", d) == nil })
			pullAt(t, "library/wrong", d, f.Nodes...)
		})
	}
}

func TestAnUpstreamThatHangsIsAnsweredForInTime(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	d := put(t, f, 160, 2*mib, "library/hang")
	image(t, f, 161, "library/hang", "latest", mib)
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Repo: "library/hang", Do: hub.Hang})
	f.Hub.MustFault(hub.Fault{Kind: hub.Redirect, Repo: "library/hang", Do: hub.Hang})
	f.Hub.MustFault(hub.Fault{Kind: hub.Manifest, Repo: "library/hang", Do: hub.Hang})
	f.Hub.MustFault(hub.Fault{Kind: hub.Tags, Repo: "library/hang", Do: hub.Hang})
	var asks []func() error
	for _, n := range f.Nodes {
		for _, c := range [][2]string{
			{http.MethodGet, "blobs/" + d.String()},
			{http.MethodHead, "blobs/" + d.String()},
			{http.MethodGet, "manifests/latest"},
			{http.MethodHead, "manifests/latest"},
			{http.MethodGet, "manifests/" + d.String()},
			{http.MethodGet, "tags/list"},
		} {
			asks = append(asks, func() error {
				r := n.Ask(t.Context(), c[0], "library/hang/"+c[1])
				if r.Status != http.StatusServiceUnavailable || r.Took > 10*time.Second {
					t.Errorf("%s %s at %s = %d after %v, %v; want 503 within 10 s", c[0], c[1], n.ID(), r.Status, r.Took, r.Err)
				}
				return nil
			})
		}
	}
	atOnce(t, asks...)
}

func TestAnUpstreamThatHangsInTheBodyDoesNotHangThePull(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: impatient})
	const size = 6 * mib
	once := put(t, f, 170, size, "library/stall")
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: once.String(), Do: hub.HangAt, At: 2*mib + 9, Count: 1})
	pullAt(t, "library/stall", once, f.Nodes...)
	if got := crossed(f, once); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
	always := put(t, f, 171, size, "library/stall")
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: always.String(), Do: hub.HangAt, At: 2*mib + 9})
	var asks []func() error
	for _, n := range f.Nodes {
		asks = append(asks, func() error {
			r := n.Ask(t.Context(), http.MethodGet, "library/stall/blobs/"+always.String())
			if r.Err == nil && r.Status == http.StatusOK || r.Took > 15*time.Second {
				t.Errorf("GET at %s = %d, %d bytes, %v after %v; want it to end in time", n.ID(), r.Status, r.Size, r.Err, r.Took)
			}
			return nil
		})
	}
	atOnce(t, asks...)
}

func TestAnUpstreamAtItsLimit(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: func(_ int, c *node.Config) {
		u := c.Upstreams[oci.DockerHub]
		u.TagTTL = 10 * time.Millisecond
		c.Upstreams[oci.DockerHub] = u
	}})
	i := image(t, f, 180, "library/limit", "cached", mib)
	image(t, f, 181, "library/limit", "uncached", mib)
	if r := f.Nodes[0].Ask(t.Context(), http.MethodGet, "library/limit/manifests/cached", acceptAll...); r.Status != http.StatusOK {
		t.Fatalf("GET = %d %s", r.Status, r.Body)
	}
	f.Hub.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Status, Status: http.StatusTooManyRequests, Wait: time.Minute})
	time.Sleep(20 * time.Millisecond) // tag_ttl
	for _, n := range f.Nodes {
		r := n.Ask(t.Context(), http.MethodGet, "library/limit/manifests/cached", acceptAll...)
		if r.Status != http.StatusOK || !bytes.Equal(r.Body, i.Raw) || r.Header.Get("Warning") == "" || r.Took > 2*time.Second {
			t.Errorf("GET of a cached tag at %s = %d after %v, Warning %q, %v; want it at once with a warning", n.ID(), r.Status, r.Took, r.Header.Get("Warning"), r.Err)
		}
		r = n.Ask(t.Context(), http.MethodGet, "library/limit/manifests/uncached", acceptAll...)
		if r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") != "60" || r.Took > 2*time.Second ||
			!strings.Contains(string(r.Body), "TOOMANYREQUESTS") {
			t.Errorf("GET of an uncached tag at %s = %d %s after %v, Retry-After %q; want 429 with Retry-After 60 at once", n.ID(), r.Status, r.Body, r.Took, r.Header.Get("Retry-After"))
		}
	}
}

func TestANodeStartsWithoutItsUpstreamAndServesWhatItHas(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2, Change: func(_ int, c *node.Config) {
		u := c.Upstreams[oci.DockerHub]
		u.TagTTL = 10 * time.Millisecond
		c.Upstreams[oci.DockerHub] = u
	}})
	i := image(t, f, 190, "library/kept", "latest", 2*mib, 3000)
	image(t, f, 191, "library/kept", "other", mib)
	lacking := put(t, f, 192, mib, "library/kept")
	for _, n := range f.Nodes {
		if err := pullImage(t.Context(), n, "library/kept", "latest"); err != nil {
			t.Fatal(err)
		}
		n.Stop()
	}
	f.Hub.MustFault(hub.Fault{Do: hub.Refuse})
	for _, n := range f.Nodes {
		n.Start()
	}
	for _, n := range f.Nodes {
		if err := pullImage(t.Context(), n, "library/kept", "latest"); err != nil {
			t.Errorf("cached image by tag: %v", err)
		}
		if err := pullImage(t.Context(), n, "library/kept", i.Digest.String()); err != nil {
			t.Errorf("cached image by digest: %v", err)
		}
		r := n.Ask(t.Context(), http.MethodGet, "library/kept/manifests/latest", acceptAll...)
		if r.Header.Get("Warning") == "" {
			t.Errorf("GET of a tag that cannot be asked for at %s = %d without a warning", n.ID(), r.Status)
		}
		for _, path := range []string{
			"manifests/other", "manifests/" + lacking.String(), "blobs/" + lacking.String(), "tags/list",
			"referrers/" + lacking.String(),
		} {
			if r := n.Ask(t.Context(), http.MethodGet, "library/kept/"+path); r.Status != http.StatusServiceUnavailable || r.Took > 10*time.Second {
				t.Errorf("GET %s at %s = %d %s after %v; want 503", path, n.ID(), r.Status, r.Body, r.Took)
			}
		}
	}
	if err := f.Hub.ClearFault(""); err != nil {
		t.Fatal(err)
	}
	f.Eventually("a pull once the upstream is back", func() bool { return f.Nodes[0].Pull(t.Context(), "library/kept", lacking) == nil })
}
