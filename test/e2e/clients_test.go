package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// pullTime bounds a pull on a busy machine, also one whose mirror answers errors: dockerd asks it twice, up to 10 s each,
// before it goes to the upstream.
const pullTime = time.Minute

// The ways in which containerd is told of a node.
const (
	hubToml = `server = "https://registry-1.docker.io"
[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
`
	quayToml = `server = "https://quay.io"
[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
`
	anyToml = `[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
`
	quayPathToml = `server = "https://quay.io"
[host."http://127.0.0.1:5000/v2/quay.io"]
  capabilities = ["pull", "resolve"]
  override_path = true
`
)

// mirrors is a registries.conf for podman, buildah and skopeo.
const mirrors = `[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "127.0.0.1:5000"
insecure = true

[[registry]]
prefix = "quay.io"
location = "quay.io"
[[registry.mirror]]
location = "127.0.0.1:5000/quay.io"
insecure = true
`

// A client pulls from Docker Hub and from quay.io, by way of the node on its host.
type client struct {
	name string
	// pull pulls by the image's usual name and returns the digest that the client knows it by.
	pull func(ctx context.Context, image string) (string, error)
	// zstd says that it takes layers packed with zstd.
	zstd bool
}

// Each client pulls by its own convention the same images, from two registries. What crosses the upstream links is what
// one client alone would have fetched.
func TestEveryClientPullsByItsOwnConvention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "containerd", "ctr", "podman", "skopeo", "buildah")
	quay := w.upstream(t, "quay", hub.Config{AuthOff: true, NoRedirect: true}, netfarm.OneName("quay.io"))
	hosts := w.hosts(t, "h", 2)
	w.nodes(t, hosts, "upstreams: {quay.io: {}}\n")
	clients := append(w.containerd(t, hosts[0]), w.containersTools(t, hosts[1])...)
	clients = append(clients, w.crane(hosts[1]))

	own := images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(21, 5*mib, 2*mib, 2048)}
	app := w.image(t, w.hub, "library/app", "1", own)
	tool := w.image(t, quay, "team/tool", "v2", images.Spec{Docker: true, Packing: images.Gzip, Layers: images.RandomLayers(22, 3*mib, mib)})
	packed := w.image(t, w.hub, "team/packed", "1", images.Spec{Packing: images.Zstd, Layers: images.RandomLayers(23, 3*mib, 4096)})

	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			w.pulls(t, c, "docker.io/library/app:1", app)
			w.pulls(t, c, "quay.io/team/tool:v2", tool)
			if c.zstd {
				w.pulls(t, c, "docker.io/team/packed:1", packed)
			}
		})
	}
	crossedOnce(t, w.hub, map[string]*images.Image{"library/app:1": app, "team/packed:1": packed})
	crossedOnce(t, quay, map[string]*images.Image{"team/tool:v2": tool})
}

// pulls fails the test unless the client gets the image.
func (w *world) pulls(t *testing.T, c client, name string, image *images.Image) {
	t.Helper()
	w.within(t, pullTime, c.name+": pull "+name, func(ctx context.Context) error {
		got, err := c.pull(ctx, name)
		if err == nil && got != image.Config.Digest.Hex() && got != image.Digest.String() {
			t.Errorf("%s: %s is %s; want configuration %s or manifest %s", c.name, name, got, image.Config.Digest, image.Digest)
		}
		return err
	})
}

// containerd is containerd's client with the three ways to name a mirror.
func (w *world) containerd(t *testing.T, h *netfarm.Host) []client {
	t.Helper()
	daemon, err := h.StartContainerd(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var clients []client
	for _, way := range []struct {
		name  string
		hosts map[string]string
	}{
		{"containerd by ns", map[string]string{"docker.io": hubToml, "quay.io": quayToml}},
		{"containerd by default", map[string]string{"_default": anyToml}},
		{"containerd by path", map[string]string{"docker.io": hubToml, "quay.io": quayPathToml}},
	} {
		namespace := strings.ReplaceAll(way.name, " ", "-")
		clients = append(clients, client{name: way.name, zstd: true, pull: func(ctx context.Context, image string) (string, error) {
			if err := daemon.Pull(ctx, namespace, way.hosts, image); err != nil {
				return "", err
			}
			return daemon.Digest(ctx, namespace, image)
		}})
	}
	return clients
}

// containersTools are the clients that read registries.conf.
func (w *world) containersTools(t *testing.T, h *netfarm.Host) []client {
	t.Helper()
	podman, err := h.NewPodman(mirrors)
	if err != nil {
		t.Fatal(err)
	}
	return []client{
		{name: "podman", zstd: true, pull: func(ctx context.Context, image string) (string, error) {
			if err := podman.Pull(ctx, image); err != nil {
				return "", err
			}
			return podman.ImageID(ctx, image)
		}},
		{name: "buildah", zstd: true, pull: func(ctx context.Context, image string) (string, error) {
			out, err := podman.Buildah(ctx, "pull", "--quiet", image)
			return out, err
		}},
		{name: "skopeo", zstd: true, pull: func(ctx context.Context, image string) (string, error) {
			to, err := os.MkdirTemp(h.Dir(), "skopeo")
			if err != nil {
				return "", err
			}
			_, err = h.Run(ctx, netfarm.Spec{Args: []string{
				"skopeo", "--registries-conf", podman.RegistriesFile(), "copy", "docker://" + image, "dir:" + to,
			}})
			if err != nil {
				return "", err
			}
			out, err := h.Run(ctx, netfarm.Spec{Args: []string{"skopeo", "manifest-digest", filepath.Join(to, "manifest.json")}})
			return strings.TrimSpace(out), err
		}},
	}
}

// crane knows no mirrors: it is told the node's name.
func (w *world) crane(h *netfarm.Host) client {
	return client{name: "crane", zstd: true, pull: func(ctx context.Context, image string) (string, error) {
		image = "127.0.0.1:5000/" + strings.TrimPrefix(image, "docker.io/")
		if _, err := h.Run(ctx, netfarm.Spec{Args: []string{w.programs.crane, "pull", image, filepath.Join(h.Dir(), "crane.tar")}}); err != nil {
			return "", err
		}
		out, err := h.Run(ctx, netfarm.Spec{Args: []string{w.programs.crane, "digest", image}})
		return strings.TrimSpace(out), err
	}}
}

// What else clients ask for: the list of tags, another platform of an index, an artifact's referrers.
func TestClientsAskForMoreThanPulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hosts(t, "h", 1)[0]
	w.nodes(t, []*netfarm.Host{h}, "")
	crane := func(args ...string) string {
		t.Helper()
		out, err := h.Run(w.ctx, netfarm.Spec{Args: append([]string{w.programs.crane}, args...)})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	var platforms []*images.Image
	for i, architecture := range []string{"amd64", "arm64"} {
		platforms = append(platforms, w.image(t, w.hub, "library/multi", "", images.Spec{
			Packing: images.Gzip, Layers: images.RandomLayers(uint64(30+i), 4096), Platform: v1.Platform{OS: "linux", Architecture: architecture},
		}))
	}
	index, err := images.Index(platforms...)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"1", "2", "latest"} {
		w.put(t, w.hub, "library/multi", tag, index)
	}
	if got := strings.Fields(crane("ls", "127.0.0.1:5000/library/multi")); strings.Join(got, " ") != "1 2 latest" {
		t.Errorf("crane ls = %v; want 1 2 latest", got)
	}
	if got := crane("digest", "--platform", "linux/arm64", "127.0.0.1:5000/multi"); got != platforms[1].Digest.String() {
		t.Errorf("crane digest of linux/arm64 = %s; want %s", got, platforms[1].Digest)
	}
	layer := platforms[1].Layers[0]
	out := filepath.Join(h.Dir(), "layer")
	if _, err := h.Run(w.ctx, netfarm.Spec{Args: []string{
		"sh", "-c", `"$1" blob "$2" > "$3"`, "sh", w.programs.crane, "127.0.0.1:5000/library/multi@" + layer.Digest.String(), out,
	}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Size() != layer.Size {
		t.Errorf("crane blob: %v, %v; want %d bytes", info, err, layer.Size)
	}
	for _, image := range platforms[:1] {
		if got := w.hub.Stats().Blobs[image.Layers[0].Digest.String()].Bytes; got != 0 {
			t.Errorf("%d bytes of a platform that nobody asked for crossed the upstream link", got)
		}
	}
}
