package netfarm

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// Podman is podman on a host, with images of its own. It has no daemon.
type Podman struct {
	host       *Host
	dir        string
	registries string
}

// NewPodman makes a podman on the host; registries is its registries.conf.
func (h *Host) NewPodman(registries string) (*Podman, error) {
	p := &Podman{host: h, dir: filepath.Join(h.dir, "podman")}
	p.registries = filepath.Join(p.dir, "registries.conf")
	if err := writeFile(p.registries, registries); err != nil {
		return nil, fmt.Errorf("configure podman on %s: %w", h.name, err)
	}
	return p, nil
}

// RegistriesFile is the path of its registries.conf, which skopeo reads as well.
func (p *Podman) RegistriesFile() string { return p.registries }

// CLI runs podman and returns what it wrote to stdout.
func (p *Podman) CLI(ctx context.Context, args ...string) (string, error) {
	own := []string{"podman", "--tmpdir", filepath.Join(p.dir, "tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	return p.run(ctx, append(own, p.storage()...), args)
}

// Buildah runs buildah, which has the same images, and returns what it wrote to stdout.
func (p *Podman) Buildah(ctx context.Context, args ...string) (string, error) {
	return p.run(ctx, append([]string{"buildah"}, p.storage()...), args)
}

func (p *Podman) storage() []string {
	return []string{"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--storage-driver", "overlay"}
}

func (p *Podman) run(ctx context.Context, program, args []string) (string, error) {
	out, err := p.host.Run(ctx, Spec{Args: append(program, args...), Env: []string{"CONTAINERS_REGISTRIES_CONF=" + p.registries}})
	return strings.TrimSpace(out), err
}

// Pull pulls an image.
func (p *Podman) Pull(ctx context.Context, image string) error {
	_, err := p.CLI(ctx, "pull", image)
	return err
}

// ImageID is the id of an image that was pulled: the digest of its configuration, without an algorithm.
func (p *Podman) ImageID(ctx context.Context, image string) (string, error) {
	return p.CLI(ctx, "image", "inspect", "--format", "{{.Id}}", image)
}
