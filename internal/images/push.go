package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Keeper stores blobs and manifests in this process; a Hub is one.
type Keeper interface {
	PutBlobFile(repo string, d digest.Digest, path string, size int64) error
	PutManifest(repo, reference, mediaType string, raw []byte) (digest.Digest, error)
}

// AddTo hands the image to a keeper that reads the blobs' files in place. An empty tag sets none.
func (i *Image) AddTo(k Keeper, repo, tag string) error {
	for _, b := range i.Blobs() {
		if err := k.PutBlobFile(repo, b.Digest, b.Path, b.Size); err != nil {
			return err
		}
	}
	for _, m := range i.Manifests() {
		reference := m.Digest.String()
		if m == i && tag != "" {
			reference = tag
		}
		if _, err := k.PutManifest(repo, reference, m.MediaType, m.Raw); err != nil {
			return err
		}
	}
	return nil
}

// Auth is who pushes; the zero value is nobody.
type Auth struct{ User, Password string }

// Push uploads the image to the registry at registryURL, such as "http://127.0.0.1:5000", blobs that
// are there already left out. It answers Bearer and Basic challenges. An empty tag sets none.
func Push(ctx context.Context, i *Image, registryURL, repo, tag string, who Auth) error {
	p, err := newPusher(registryURL, repo, who)
	if err != nil {
		return fmt.Errorf("push to %s: %w", registryURL, err)
	}
	defer p.plain.CloseIdleConnections()
	ctx = auth.AppendScopesForHost(ctx, p.base.Host, auth.ScopeRepository(repo, auth.ActionPull, auth.ActionPush))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, b := range i.Blobs() {
		group.Go(func() error { return p.blob(groupCtx, b) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, m := range i.Manifests() {
		reference := m.Digest.String()
		if m == i && tag != "" {
			reference = tag
		}
		if err := p.manifest(ctx, m, reference); err != nil {
			return err
		}
	}
	return nil
}

// pusher uploads to one repository.
type pusher struct {
	base   *url.URL
	repo   string
	client *auth.Client
	plain  *http.Transport
}

func newPusher(registryURL, repo string, who Auth) (*pusher, error) {
	base, err := url.Parse(registryURL)
	if err != nil {
		return nil, err
	}
	plain := &http.Transport{Proxy: http.ProxyFromEnvironment, WriteBufferSize: bufferSize}
	client := &auth.Client{Client: &http.Client{Transport: plain}, Cache: auth.NewCache()}
	if who.User != "" {
		client.Credential = auth.StaticCredential(base.Host, auth.Credential{Username: who.User, Password: who.Password})
	}
	return &pusher{base: base, repo: repo, client: client, plain: plain}, nil
}

func (p *pusher) url(parts ...string) string {
	return p.base.JoinPath(append([]string{"v2", p.repo}, parts...)...).String()
}

// blob uploads one blob in a session of one PUT.
func (p *pusher) blob(ctx context.Context, b Blob) error {
	there, err := p.do(ctx, http.MethodHead, p.url("blobs", b.Digest.String()), "", nil, 0)
	if err == nil && there.StatusCode == http.StatusOK {
		return nil
	}
	session, err := p.want(ctx, http.StatusAccepted, http.MethodPost, p.url("blobs", "uploads")+"/", "", nil, 0)
	if err != nil {
		return fmt.Errorf("push blob %s: %w", b.Digest, err)
	}
	location, err := p.base.Parse(session.Header.Get("Location"))
	if err != nil {
		return fmt.Errorf("push blob %s: %w", b.Digest, err)
	}
	query := location.Query()
	query.Set("digest", b.Digest.String())
	location.RawQuery = query.Encode()
	open := func() (io.ReadCloser, error) { return os.Open(b.Path) }
	_, err = p.want(ctx, http.StatusCreated, http.MethodPut, location.String(), "application/octet-stream", open, b.Size)
	if err != nil {
		return fmt.Errorf("push blob %s: %w", b.Digest, err)
	}
	return nil
}

func (p *pusher) manifest(ctx context.Context, m *Image, reference string) error {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Raw)), nil }
	_, err := p.want(ctx, http.StatusCreated, http.MethodPut, p.url("manifests", reference), m.MediaType, open, int64(len(m.Raw)))
	if err != nil {
		return fmt.Errorf("push manifest %s: %w", reference, err)
	}
	return nil
}

// want is do for one status only.
func (p *pusher) want(
	ctx context.Context, status int, method, target, mediaType string, open func() (io.ReadCloser, error), size int64,
) (*http.Response, error) {
	resp, err := p.do(ctx, method, target, mediaType, open, size)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != status {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, target, resp.Status, strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// do sends a request and reads the answer's (short) body before it returns.
func (p *pusher) do(
	ctx context.Context, method, target, mediaType string, open func() (io.ReadCloser, error), size int64,
) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	if open != nil {
		if req.Body, err = open(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = open, size
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, err
}
