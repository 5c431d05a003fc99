package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

const (
	loadConnections = 64
	loadTime        = 3 * time.Second
)

// measureManifestLoad compares manifest GETs by digest and by tag with a handler that answers the same bytes from
// memory, in turn.
func measureManifestLoad(ctx context.Context, b *bench, s *sheet) (err error) {
	image, err := b.image(110, 1*mib)
	if err != nil {
		return err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, 1, h.URL(), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	dir, err := b.folder("static")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), image.Raw, 0o644); err != nil {
		return err
	}
	plain, err := startPlain(ctx, dir)
	if err != nil {
		return err
	}
	defer plain.close()
	c := newClient(f.Nodes[0].Registry)
	defer c.close()
	manifests := f.Nodes[0].Registry + "/v2/" + repo + "/manifests/"
	targets := []struct {
		url   string
		speed func(float64)
		p99   func(float64)
	}{
		{
			manifests + image.Digest.String(),
			s.line("by digest", "requests/s", atLeast(20000), "distribution v3 8,300, zot 18,000"), s.line("by digest, p99", "ms", below(10), ""),
		},
		{
			manifests + tag,
			s.line("by tag within tag_ttl", "requests/s", atLeast(20000), "distribution v3 1,050, zot 14,500 to 18,800"), s.line("by tag, p99", "ms", below(10), ""),
		},
		{plain.url + "/" + manifestFile, s.line("static handler", "requests/s", nil, "65,000"), s.line("static handler, p99", "ms", nil, "")},
	}
	defer b.profiled(ctx, "manifest-load", f.Nodes[0])()
	for range b.pairs() {
		for _, target := range targets {
			// The tag's time may have run out; what is measured is within it.
			if _, err := c.manifest(ctx, repo, tag); err != nil {
				return err
			}
			r, err := load(ctx, target.url, manifestTypes(), loadConnections, loadTime)
			if err != nil {
				return err
			}
			target.speed(r.perSecond)
			target.p99(millis(r.p99))
		}
	}
	s.note("the load generator shares the machine's cores with the server")
	return nil
}
