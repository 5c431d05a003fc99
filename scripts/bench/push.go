package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullonce/pullonce/internal/hub/realregistry"
	"github.com/pullonce/pullonce/internal/images"
)

const (
	// pushNodes are as many as keep copies.
	pushNodes = 3
	// catalogTime is how long a new farm may take to have a catalog.
	catalogTime = 30 * time.Second
)

// A pushTarget is something that an image is pushed to.
type pushTarget struct {
	address string // of the registry, as crane names it
	repo    string
	pids    []int
	profile func() (wait func()) // of what follows
	close   func() error
}

// measurePush compares pushing an image to a farm that keeps three copies with pushing it to distribution, which keeps
// one, in turn, both new each time.
func measurePush(ctx context.Context, b *bench, s *sheet) error {
	crane, err := buildCrane(ctx, b.dir)
	if err != nil {
		return err
	}
	program, err := realregistry.Build(ctx, b.dir)
	if err != nil {
		return err
	}
	image, err := b.image(300, b.size(gib))
	if err != nil {
		return err
	}
	layout, err := b.layout(image)
	if err != nil {
		return err
	}
	ratio := s.line("time of a push, 3 copies on 3 nodes ÷ distribution v3's one copy", "", atMost(1.5), "")
	took := s.line("push to the farm", "s", nil, "")
	cost := s.line("push to the farm, all 3 nodes", "CPU-s/GiB", nil, "")
	other := s.line("push to distribution v3", "s", nil, "")
	otherCost := s.line("push to distribution v3", "CPU-s/GiB", nil, "")
	for range b.pairs() {
		farm, err := b.pushTo(ctx, crane, layout, image, b.farmTarget)
		if err != nil {
			return fmt.Errorf("farm: %w", err)
		}
		one, err := b.pushTo(ctx, crane, layout, image, func(ctx context.Context) (*pushTarget, error) { return b.distributionTarget(ctx, program) })
		if err != nil {
			return fmt.Errorf("distribution: %w", err)
		}
		ratio(farm.took.Seconds() / one.took.Seconds())
		took(farm.took.Seconds())
		cost(farm.cost)
		other(one.took.Seconds())
		otherCost(one.cost)
	}
	s.note("crane pushes an OCI layout; all processes, crane too, share this machine's processors and its one disk")
	return nil
}

type pushTime struct {
	took time.Duration
	cost float64 // CPU-s per GiB
}

func (b *bench) pushTo(ctx context.Context, crane, layout string, image *images.Image, start func(context.Context) (*pushTarget, error)) (p pushTime, err error) {
	t, err := start(ctx)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if _, err := b.warm(ctx, image.UniqueBytes()); err != nil {
		return p, err
	}
	before, err := quiet(ctx, t.pids...)
	if err != nil {
		return p, err
	}
	defer t.profile()()
	began := time.Now()
	out, err := exec.CommandContext(ctx, crane, "push", "--insecure", layout, t.address+"/"+t.repo+":1").CombinedOutput()
	if err != nil {
		return p, fmt.Errorf("crane push: %w: %s", err, out)
	}
	p.took = time.Since(began)
	after, err := quiet(ctx, t.pids...)
	p.cost = (after - before).Seconds() / gibs(image.UniqueBytes())
	return p, err
}

func (b *bench) farmTarget(ctx context.Context) (*pushTarget, error) {
	f, err := b.farm(ctx, pushNodes, "http://127.0.0.1:9", "") // nothing comes from the upstream
	if err != nil {
		return nil, err
	}
	if err := f.hasCatalog(ctx); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return &pushTarget{
		address: strings.TrimPrefix(f.Nodes[0].Registry, "http://"), repo: "farm.internal/" + repo, pids: f.pids(),
		profile: func() func() { return b.profiled(ctx, "push", f.Nodes...) }, close: f.close,
	}, nil
}

// hasCatalog waits until the nodes can take pushes.
func (f *farm) hasCatalog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catalogTime)
	defer cancel()
	for {
		knows := 0
		var errs []error
		for _, n := range f.Nodes {
			s, err := n.Status(ctx)
			if errs = append(errs, err); err == nil && s.Catalog != nil && s.Catalog.Leader != "" {
				knows++
			}
		}
		if knows == len(f.Nodes) {
			return nil
		}
		select {
		case <-time.After(sampleEvery):
		case <-ctx.Done():
			return fmt.Errorf("farm has no catalog: %w", errors.Join(append(errs, ctx.Err())...))
		}
	}
}

func (b *bench) distributionTarget(ctx context.Context, program string) (*pushTarget, error) {
	dir, err := b.folder("distribution")
	if err != nil {
		return nil, err
	}
	p, err := realregistry.Start(ctx, realregistry.Config{Program: program, Dir: dir})
	if err != nil {
		return nil, errors.Join(err, b.drop(dir))
	}
	return &pushTarget{
		address: strings.TrimPrefix(p.URL(), "http://"), repo: repo, pids: []int{p.PID()},
		profile: func() func() { return func() {} },
		close:   func() error { p.Close(); return b.drop(dir) },
	}, nil
}

// layout makes an OCI image layout of an image, for crane.
func (b *bench) layout(image *images.Image) (string, error) {
	dir, err := b.folder("layout")
	if err != nil {
		return "", err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", err
	}
	for _, blob := range image.Blobs() {
		if err := os.Link(blob.Path, filepath.Join(blobs, blob.Digest.Encoded())); err != nil {
			return "", err
		}
	}
	files := map[string][]byte{filepath.Join(blobs, image.Digest.Encoded()): image.Raw}
	index := v1.Index{Versioned: ocispec.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{image.Descriptor}}
	for name, value := range map[string]any{v1.ImageLayoutFile: v1.ImageLayout{Version: v1.ImageLayoutVersion}, "index.json": index} {
		if files[filepath.Join(dir, name)], err = json.Marshal(value); err != nil {
			return "", err
		}
	}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// buildCrane builds the crane of tools/crane.
func buildCrane(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "crane")
	cmd := exec.CommandContext(ctx, "go", "build", "-C", "tools/crane", "-o", path, "github.com/google/go-containerregistry/cmd/crane")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build crane: %w\n%s", err, out)
	}
	return path, nil
}
