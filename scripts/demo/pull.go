package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/oci"
)

// atOnce is how many blobs an engine fetches at a time: dockerd's and containerd's default.
const atOnce = 3

// An engine pulls an image through its host's registry as a container engine does: HEAD of the manifest by tag, GET of
// it by digest, of an index the manifest of this machine's platform, then the configuration and the layers, three at a
// time, each checked against its digest while it is read. It keeps nothing.
type engine struct {
	base  string // URL of the registry
	image image

	got   atomic.Int64 // bytes of manifests and blobs
	total atomic.Int64 // what they come to; 0 until the manifest is here
	took  time.Duration
	blobs []oci.Descriptor
	http  *http.Client
}

func newEngine(registry string, i image) *engine {
	return &engine{base: "http://" + registry, image: i, http: &http.Client{Transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: atOnce, ReadBufferSize: 64 << 10,
	}}}
}

// pull fetches the whole image.
func (e *engine) pull(ctx context.Context) error {
	start := time.Now()
	defer func() { e.took = time.Since(start) }()
	defer e.http.CloseIdleConnections()
	var err error
	if e.blobs, err = e.resolve(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, b := range e.blobs {
		group.Go(func() error { return e.blob(ctx, b) })
	}
	return group.Wait()
}

// blobBytes is what the image's blobs come to, without the manifests.
func (e *engine) blobBytes() int64 {
	var n int64
	for _, b := range e.blobs {
		n += b.Size
	}
	return n
}

// resolve finds the image's blobs, each once.
func (e *engine) resolve(ctx context.Context) ([]oci.Descriptor, error) {
	ping, err := e.ask(ctx, http.MethodGet, "", nil)
	if err != nil {
		return nil, err
	}
	_ = ping.Body.Close()
	named, err := e.head(ctx)
	if err != nil {
		return nil, err
	}
	mediaType, raw, err := e.manifest(ctx, named)
	if err != nil {
		return nil, err
	}
	if mediaType == oci.MediaTypeOCIIndex || mediaType == oci.MediaTypeDockerList {
		child, err := platform(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.image, err)
		}
		if mediaType, raw, err = e.manifest(ctx, child); err != nil {
			return nil, err
		}
	}
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.image, err)
	}
	var blobs []oci.Descriptor
	sum := e.got.Load()
	for _, b := range m.Blobs() {
		if !slices.ContainsFunc(blobs, func(o oci.Descriptor) bool { return o.Digest == b.Digest }) {
			blobs = append(blobs, b)
			sum += b.Size
		}
	}
	e.total.Store(sum)
	return blobs, nil
}

// head asks what digest the image's tag has now.
func (e *engine) head(ctx context.Context) (oci.Digest, error) {
	if d, err := oci.ParseDigest(e.image.reference); err == nil {
		return d, nil
	}
	r, err := e.ask(ctx, http.MethodHead, e.image.repository+"/manifests/"+e.image.reference, oci.ManifestTypes())
	if err != nil {
		return oci.Digest{}, err
	}
	_ = r.Body.Close()
	d, err := oci.ParseDigest(r.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return oci.Digest{}, fmt.Errorf("digest of %s: %w", e.image, err)
	}
	return d, nil
}

func (e *engine) manifest(ctx context.Context, d oci.Digest) (mediaType string, raw []byte, err error) {
	r, err := e.ask(ctx, http.MethodGet, e.image.repository+"/manifests/"+d.String(), oci.ManifestTypes())
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = r.Body.Close() }()
	raw, err = io.ReadAll(io.LimitReader(r.Body, oci.MaxManifestBytes))
	if err != nil {
		return "", nil, fmt.Errorf("read manifest %s: %w", d, err)
	}
	if got := oci.FromBytes(d.Algorithm(), raw); got != d {
		return "", nil, fmt.Errorf("manifest %s has the bytes of %s", d, got)
	}
	e.got.Add(int64(len(raw)))
	return r.Header.Get("Content-Type"), raw, nil
}

// platform picks the manifest of this machine's platform out of an index.
func platform(raw []byte) (oci.Digest, error) {
	var index v1.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return oci.Digest{}, err
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH {
			return oci.ParseDigest(m.Digest.String())
		}
	}
	return oci.Digest{}, fmt.Errorf("no image for linux/%s", runtime.GOARCH)
}

// blob reads one blob and checks it.
func (e *engine) blob(ctx context.Context, want oci.Descriptor) error {
	r, err := e.ask(ctx, http.MethodGet, e.image.repository+"/blobs/"+want.Digest.String(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	hash := want.Digest.New()
	buf := make([]byte, 256<<10)
	n, err := io.CopyBuffer(io.MultiWriter(hash, counter{&e.got}), onlyReader{r.Body}, buf)
	if err != nil {
		return fmt.Errorf("read blob %s at byte %d of %d: %w", want.Digest, n, want.Size, err)
	}
	if sum := fmt.Sprintf("%x", hash.Sum(nil)); sum != want.Digest.Hex() || n != want.Size {
		return fmt.Errorf("blob %s has %d bytes with the hash %s; want %d bytes", want.Digest, n, sum, want.Size)
	}
	return nil
}

// onlyReader hides what else a body can do, so that the buffer is used.
type onlyReader struct{ io.Reader }

// A counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// ask sends a request for a path under /v2/ and returns the answer if it is 200; its body is the caller's to close.
func (e *engine) ask(ctx context.Context, method, path string, accept []string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, e.base+"/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	q.Header["Accept"] = accept
	r, err := e.http.Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 512))
		_ = r.Body.Close()
		return nil, fmt.Errorf("%s %s: %s %s", method, q.URL, r.Status, text)
	}
	return r, nil
}
