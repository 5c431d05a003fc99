package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// How engines are told of the farm as a registry of its own, so that one image name works on all but dockerd.
const (
	// The path says whose names these are: containerd does so itself when it pulls, but not when it pushes.
	farmToml = `[host."http://127.0.0.1:5000/v2/farm.internal"]
  capabilities = ["pull", "resolve", "push"]
  override_path = true
`
	farmRegistry = `
[[registry]]
prefix = "farm.internal"
location = "127.0.0.1:5000/farm.internal"
insecure = true
`
	// Where the hosts file leads farm.internal to the node, which listens on the usual port too, no engine needs more.
	farmByName = `
[[registry]]
location = "farm.internal"
insecure = true
`
)

// A publisher is a client that pushes what it has by one name, and pulls by it.
type publisher struct {
	name string
	// by is how the client names a repository of the farm: it begins with the farm's prefix, or with the node's address.
	by   string
	push func(ctx context.Context, image string) error
	// pull fails unless the client gets an image of that configuration.
	pull func(ctx context.Context, image, configuration string) error
}

const atNode = "127.0.0.1:5000/farm.internal"

// What one engine pushes on one host every engine pulls on every other, by the same path.
func TestWhatIsPushedOnOneHostIsPulledOnAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "dockerd", "docker", "containerd", "ctr", "podman", "skopeo")
	w.names["farm.internal"] = netip.MustParseAddr("127.0.0.1")
	hosts := w.hosts(t, "h", 3)
	docker := w.dockerds(t, hosts)
	nodes := w.nodes(t, hosts, "", "P2PD_REGISTRY_LISTEN=127.0.0.1:5000,127.0.0.1:80")
	hasCatalog(t, nodes...)
	image := w.image(t, w.hub, "library/app", "1", images.Spec{
		Docker: true, Packing: images.Gzip, Layers: images.RandomLayers(61, 6*mib, mib, 2048),
	})
	var all []publisher
	for i, h := range hosts {
		by, registries := atNode, farmRegistry
		if i > 0 {
			by, registries = "farm.internal", farmByName
		}
		all = append(all, w.dockerPublisher(i, by, docker[i]))
		all = append(all, w.toolPublishers(t, i, by, registries, h)...)
	}
	all = append(all, w.containerdPublisher(t, hosts[2]))

	for i, p := range all {
		if p.push == nil {
			continue
		}
		path := fmt.Sprintf("/team/app%d:1", i)
		w.within(t, pullTime, p.name+" pushes", func(ctx context.Context) error { return p.push(ctx, p.by+path) })
		for _, other := range all {
			w.within(t, pullTime, other.name+" pulls what "+p.name+" pushed", func(ctx context.Context) error {
				return other.pull(ctx, other.by+path, image.Config.Digest.Hex())
			})
		}
	}
}

func (w *world) dockerPublisher(i int, by string, d *netfarm.Docker) publisher {
	return publisher{
		name: fmt.Sprintf("docker on host %d", i+1), by: by,
		push: func(ctx context.Context, image string) error {
			if err := d.Pull(ctx, "app:1"); err != nil {
				return err
			}
			_, err := d.CLI(ctx, "tag", "app:1", image)
			if err == nil {
				_, err = d.CLI(ctx, "push", image)
			}
			return err
		},
		pull: func(ctx context.Context, image, configuration string) error {
			if err := d.Pull(ctx, image); err != nil {
				return err
			}
			return wants(configuration)(d.ImageID(ctx, image))
		},
	}
}

// toolPublishers are podman, skopeo and crane on a host. What they push goes by the name by; podman and skopeo pull by
// farm.internal however that is.
func (w *world) toolPublishers(t *testing.T, i int, by, registries string, h *netfarm.Host) []publisher {
	t.Helper()
	podman, err := h.NewPodman(mirrors + registries)
	if err != nil {
		t.Fatal(err)
	}
	skopeo := func(ctx context.Context, args ...string) (string, error) {
		return h.Run(ctx, netfarm.Spec{Args: append([]string{"skopeo", "--registries-conf", podman.RegistriesFile()}, args...)})
	}
	crane := func(ctx context.Context, args ...string) (string, error) {
		return h.Run(ctx, netfarm.Spec{Args: append([]string{w.programs.crane}, args...)})
	}
	on := fmt.Sprintf(" on host %d", i+1)
	return []publisher{
		{
			name: "podman" + on, by: by,
			push: func(ctx context.Context, image string) error {
				if err := podman.Pull(ctx, "docker.io/library/app:1"); err != nil {
					return err
				}
				_, err := podman.CLI(ctx, "push", "--tls-verify=false", "docker.io/library/app:1", image)
				return err
			},
			pull: func(ctx context.Context, image, configuration string) error {
				image = "farm.internal" + strings.TrimPrefix(image, by)
				if err := podman.Pull(ctx, image); err != nil {
					return err
				}
				return wants(configuration)(podman.ImageID(ctx, image))
			},
		},
		{
			name: "skopeo" + on, by: by,
			push: func(ctx context.Context, image string) error {
				_, err := skopeo(ctx, "copy", "--dest-tls-verify=false", "docker://docker.io/library/app:1", "docker://"+image)
				return err
			},
			pull: func(ctx context.Context, image, configuration string) error {
				image = "farm.internal" + strings.TrimPrefix(image, by)
				dir := filepath.Join(h.Dir(), "skopeo-"+strings.NewReplacer("/", "-", ":", "-").Replace(image))
				if _, err := skopeo(ctx, "copy", "docker://"+image, "dir:"+dir); err != nil {
					return err
				}
				_, err := h.Run(ctx, netfarm.Spec{Args: []string{"test", "-s", filepath.Join(dir, configuration)}})
				return err
			},
		},
		{
			name: "crane" + on, by: by,
			push: func(ctx context.Context, image string) error {
				_, err := crane(ctx, "copy", "--insecure", "127.0.0.1:5000/library/app:1", image)
				return err
			},
			pull: func(ctx context.Context, image, configuration string) error {
				if _, err := crane(ctx, "pull", "--insecure", image, filepath.Join(h.Dir(), "crane.tar")); err != nil {
					return err
				}
				out, err := crane(ctx, "manifest", "--insecure", image)
				if err == nil && !strings.Contains(out, configuration) {
					err = fmt.Errorf("manifest without configuration %s: %s", configuration, out)
				}
				return err
			},
		},
	}
}

// containerdPublisher is ctr, which is told of farm.internal by a hosts.toml.
func (w *world) containerdPublisher(t *testing.T, h *netfarm.Host) publisher {
	t.Helper()
	daemon, err := h.StartContainerd(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	const namespace = "farm"
	registries := map[string]string{"docker.io": hubToml, "farm.internal": farmToml}
	return publisher{
		name: "containerd", by: "farm.internal",
		push: func(ctx context.Context, image string) error {
			if err := daemon.Pull(ctx, namespace, registries, "docker.io/library/app:1"); err != nil {
				return err
			}
			if _, err := daemon.CLI(ctx, "--namespace", namespace, "images", "tag", "docker.io/library/app:1", image); err != nil {
				return err
			}
			return daemon.Push(ctx, namespace, registries, image)
		},
		pull: func(ctx context.Context, image, configuration string) error {
			if err := daemon.Pull(ctx, namespace, registries, image); err != nil {
				return err
			}
			_, err := daemon.CLI(ctx, "--namespace", namespace, "content", "get", "sha256:"+configuration)
			return err
		},
	}
}

// wants checks an image id, with or without its algorithm.
func wants(configuration string) func(id string, err error) error {
	return func(id string, err error) error {
		if err == nil && strings.TrimPrefix(id, "sha256:") != configuration {
			err = fmt.Errorf("image id %s; want %s", id, configuration)
		}
		return err
	}
}

// hasCatalog waits until every node has found the farm's catalog.
func hasCatalog(t *testing.T, nodes ...*netfarm.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := netfarm.Poll(ctx, func(ctx context.Context) error {
		for _, n := range nodes {
			s, err := n.Status(ctx)
			if err != nil {
				return err
			}
			for _, m := range s.Members {
				if m.Node == nil || m.Node.Catalog == nil || m.Node.Catalog.Leader == "" {
					return errors.New("a member knows no leader of the catalog")
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
