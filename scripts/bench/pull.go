package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/oci"
)

const (
	// atOnce is how many blobs an engine fetches at a time.
	atOnce = 3
	// readSize is how much a client reads at a time. The bytes are thrown away.
	readSize = 1 << 20
	// blobTime bounds one request.
	blobTime = 10 * time.Minute
)

// A client pulls as a container engine does, without keeping anything. It may be used by many goroutines.
type client struct {
	base  string // URL of the registry
	http  *http.Client
	check bool   // compare blobs with their digests: costs processor time
	token string // for a registry that asks for one
}

func newClient(base string) *client {
	return &client{base: base, http: &http.Client{Transport: &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 16, ReadBufferSize: 64 << 10,
	}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// A transferred blob is what a GET of it took.
type transferred struct {
	first time.Duration // from the request to the first byte of the body
	took  time.Duration
	bytes int64
}

// blob reads a whole blob.
func (c *client) blob(ctx context.Context, repo, digest string) (transferred, error) {
	ctx, cancel := context.WithTimeout(ctx, blobTime)
	defer cancel()
	start := time.Now()
	r, err := c.ask(ctx, http.MethodGet, repo+"/blobs/"+digest, "")
	if err != nil {
		return transferred{}, err
	}
	defer func() { _ = r.Body.Close() }()
	var sum hash.Hash
	if c.check {
		sum = sha256.New()
	}
	t, err := drain(r.Body, start, sum)
	if err != nil {
		return t, fmt.Errorf("read %s after %d bytes: %w", digest, t.bytes, err)
	}
	if r.ContentLength >= 0 && t.bytes != r.ContentLength {
		return t, fmt.Errorf("read %s: %d bytes of %d", digest, t.bytes, r.ContentLength)
	}
	if sum != nil && "sha256:"+hex.EncodeToString(sum.Sum(nil)) != digest {
		return t, &wrongBytesError{digest}
	}
	return t, nil
}

// A wrongBytesError says that a whole blob came that is not what was asked for.
type wrongBytesError struct{ digest string }

func (e *wrongBytesError) Error() string { return "wrong bytes of " + e.digest }

func drain(body io.Reader, start time.Time, sum hash.Hash) (transferred, error) {
	var t transferred
	buffer := make([]byte, readSize)
	for {
		n, err := body.Read(buffer)
		if n > 0 && t.bytes == 0 {
			t.first = time.Since(start)
		}
		t.bytes += int64(n)
		if sum != nil {
			_, _ = sum.Write(buffer[:n])
		}
		if err != nil {
			t.took = time.Since(start)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return t, err
		}
	}
}

func (c *client) ask(ctx context.Context, method, path, accept string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, c.base+"/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		q.Header.Set("Accept", accept)
	}
	if c.token != "" {
		q.Header.Set("Authorization", "Bearer "+c.token)
	}
	r, err := c.http.Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 512))
		_ = r.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, q.URL, r.Status, strings.TrimSpace(string(text)))
	}
	return r, nil
}

// authorize gets a token for a repository, as Docker Hub hands them out to everybody.
func (c *client) authorize(ctx context.Context, tokenURL, repo string) error {
	query := url.Values{"service": {"registry.docker.io"}, "scope": {"repository:" + repo + ":pull"}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, tokenURL+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	r, err := c.http.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	var answer struct{ Token string }
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || answer.Token == "" {
		return fmt.Errorf("no token from %s: %s: %w", tokenURL, r.Status, errors.Join(err))
	}
	c.token = answer.Token
	return nil
}

// image pulls all of an image: the manifest, of an index that of this machine's platform, and the blobs, three at a
// time. Half of the clients in use ask for the tag's digest first (docker, containerd); the others do not.
func (c *client) image(ctx context.Context, repo, tag string, headFirst bool) error {
	reference := tag
	if headFirst {
		r, err := c.ask(ctx, http.MethodHead, repo+"/manifests/"+tag, manifestTypes())
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		reference = r.Header.Get("Docker-Content-Digest")
	}
	m, err := c.manifest(ctx, repo, reference)
	if err != nil {
		return err
	}
	if len(m.Manifests) > 0 {
		if m, err = c.manifest(ctx, repo, m.Manifests[0].Digest.String()); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, blob := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		group.Go(func() error {
			_, err := c.blob(ctx, repo, blob.Digest.String())
			return err
		})
	}
	return group.Wait()
}

// anyManifest is an index or an image's manifest.
type anyManifest struct {
	Config    v1.Descriptor
	Layers    []v1.Descriptor
	Manifests []v1.Descriptor
}

func (c *client) manifest(ctx context.Context, repo, reference string) (anyManifest, error) {
	var m anyManifest
	r, err := c.ask(ctx, http.MethodGet, repo+"/manifests/"+reference, manifestTypes())
	if err != nil {
		return m, err
	}
	defer func() { _ = r.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(r.Body, oci.MaxManifestBytes)).Decode(&m); err != nil {
		return m, fmt.Errorf("manifest %s of %s: %w", reference, repo, err)
	}
	return m, nil
}

func manifestTypes() string { return strings.Join(oci.ManifestTypes(), ", ") }
