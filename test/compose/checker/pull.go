package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// pull reads the whole image through the node at address, and returns how many bytes of blobs it gave. Every byte is
// checked.
func pull(ctx context.Context, address string, want *images.Image) (int64, error) {
	repo, err := remote.NewRepository(net.JoinHostPort(address, "5000") + "/" + repository)
	if err != nil {
		return 0, err
	}
	repo.PlainHTTP = true
	got, err := repo.Resolve(ctx, tag)
	if err != nil {
		return 0, err
	}
	if got.Digest != want.Digest {
		return 0, fmt.Errorf("the tag is %s; want %s", got.Digest, want.Digest)
	}
	if _, err := content.FetchAll(ctx, repo, got); err != nil {
		return 0, err
	}
	var sum int64
	for _, b := range want.Blobs() {
		n, err := read(ctx, repo, b.Descriptor)
		sum += n
		if err != nil {
			return sum, fmt.Errorf("blob %s: %w", b.Digest, err)
		}
	}
	return sum, nil
}

func read(ctx context.Context, repo *remote.Repository, blob v1.Descriptor) (int64, error) {
	body, err := repo.Fetch(ctx, blob)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	checked := content.NewVerifyReader(body, blob)
	n, err := io.Copy(io.Discard, checked)
	if err != nil {
		return n, err
	}
	return n, checked.Verify()
}

// once is nil when each blob of the image was read from the stand-in once, and its manifest asked for once.
func once(ctx context.Context, admin string, image *images.Image, stdout io.Writer) error {
	var stats hub.Stats
	if err := call(ctx, http.MethodGet, admin+"/hub/stats", &stats); err != nil {
		return err
	}
	for _, b := range image.Blobs() {
		if got := stats.Blobs[b.Digest.String()].Bytes; got != b.Size {
			return fmt.Errorf("%d bytes of blob %s crossed the upstream link; want %d", got, b.Digest, b.Size)
		}
	}
	if stats.ManifestGets != 1 {
		return fmt.Errorf("the manifest was asked for %d times; want once", stats.ManifestGets)
	}
	_, err := fmt.Fprintf(stdout, "upstream wrote %d bytes for %d of the image, ratio %.5f\n",
		stats.SocketBytes, image.UniqueBytes(), float64(stats.SocketBytes)/float64(image.UniqueBytes()))
	return err
}

func reset(ctx context.Context, admin string) error {
	return call(ctx, http.MethodPost, admin+"/hub/reset", nil)
}

// call asks the stand-in's admin API.
func call(ctx context.Context, method, url string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	return nil
}
