package e2e

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// brokenName is an upstream that the node goes to instead of Docker Hub.
const brokenName = "broken.example"

// errNotYet says that something that is waited for has not come about.
var errNotYet = errors.New("not yet")

// The node's way to the upstream is broken while the host's own is not. An engine that pulls ends in time, and has the
// image: from the upstream itself.
func TestAnEngineFallsBackWhenTheNodesUpstreamFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "dockerd", "docker", "containerd", "ctr", "podman")
	image := w.image(t, w.hub, "library/app", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(41, 2*mib, 4096)})
	for name, fault := range map[string]hub.Fault{
		"hangs":  {Do: hub.Hang},
		"resets": {Do: hub.Down},
		// podman asks five times, as long after each other as it is told to wait.
		"limits": {Kind: hub.Manifest, Do: hub.Status, Status: http.StatusTooManyRequests, Wait: 2 * time.Second},
		"fails":  {Kind: hub.Manifest, Do: hub.Status, Status: http.StatusInternalServerError},
		"gone":   {}, // not there at all, from before the node's start
	} {
		registry, host := w.behind(t, name)
		w.put(t, registry, "library/app", "1", image)
		if fault.Do != "" {
			registry.MustFault(fault)
		} else if err := registry.Close(); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.nodes(t, []*netfarm.Host{host}, brokenUpstream)
			w.allPull(t, host, image)
		})
	}
}

// brokenUpstream is the configuration of a node whose Docker Hub is another.
const brokenUpstream = "upstreams: {docker.io: {url: \"https://" + brokenName + "\"}}\n"

// behind makes a host whose node finds a registry of its own at brokenName.
func (w *world) behind(t *testing.T, name string) (*hub.Hub, *netfarm.Host) {
	t.Helper()
	registry := w.upstream(t, name+"-hub", hub.Config{}, netfarm.OneName(brokenName))
	return registry, w.hosts(t, name, 1)[0]
}

// allPull pulls docker.io/library/app:1 with dockerd, containerd and podman at once.
func (w *world) allPull(t *testing.T, host *netfarm.Host, image *images.Image) {
	t.Helper()
	w.pullWith(t, w.dockerds(t, []*netfarm.Host{host})[0], host, image)
}

// pullWith pulls docker.io/library/app:1 with that dockerd, and a containerd and a podman of the host's, at once.
func (w *world) pullWith(t *testing.T, docker *netfarm.Docker, host *netfarm.Host, image *images.Image) {
	t.Helper()
	const name = "docker.io/library/app:1"
	podman, err := host.NewPodman(mirrors)
	if err != nil {
		t.Fatal(err)
	}
	containerd := w.containerd(t, host)[0]
	atOnce(
		func() {
			w.pulls(t, client{name: "dockerd", pull: func(ctx context.Context, image string) (string, error) {
				return dockerPull(ctx, docker, image)
			}}, name, image)
		},
		func() { w.pulls(t, containerd, name, image) },
		func() {
			w.pulls(t, client{name: "podman", pull: func(ctx context.Context, image string) (string, error) {
				if err := podman.Pull(ctx, image); err != nil {
					return "", err
				}
				return podman.ImageID(ctx, image)
			}}, name, image)
		},
	)
}

func dockerPull(ctx context.Context, docker *netfarm.Docker, image string) (string, error) {
	if err := docker.Pull(ctx, image); err != nil {
		return "", err
	}
	id, err := docker.ImageID(ctx, image)
	return strings.TrimPrefix(id, "sha256:"), err
}

func atOnce(do ...func()) {
	var group errgroup.Group
	for _, one := range do {
		group.Go(func() error { one(); return nil })
	}
	_ = group.Wait()
}

// A blob's bytes stop or end in the middle, once. The engine does not notice: the node goes on where it was.
func TestABlobThatIsCutInTheMiddleIsResumed(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]hub.Effect{"cut": hub.CutAt, "hanging": hub.HangAt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "dockerd", "docker", "containerd", "ctr", "podman")
			image := w.image(t, w.hub, "library/app", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(42, 8*mib, 4096)})
			big := image.Layers[0]
			const at = 3*mib + 1234
			w.hub.MustFault(hub.Fault{Kind: hub.Blob, Method: http.MethodGet, Ref: big.Digest.String(), Do: do, At: at, Count: 1})
			hosts := w.hosts(t, "h", 1)
			w.nodes(t, hosts, "")
			w.allPull(t, hosts[0], image)
			stats := w.hub.Stats().Blobs[big.Digest.String()]
			if stats.Gets < 2 || stats.Bytes != big.Size {
				t.Errorf("%d bytes of the layer crossed the upstream link in %d requests, %d of them for a range; want %d bytes, and a resumed read",
					stats.Bytes, stats.Gets, stats.Ranges, big.Size)
			}
		})
	}
}

// Manifests come, blobs do not. The engine's pull ends in time, however it ends, and a later one works once the upstream
// does.
func TestBlobsThatHangDoNotHoldAnEngineForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "dockerd", "docker", "containerd", "ctr", "podman")
	image := w.image(t, w.hub, "library/app", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(43, 2*mib, 300<<10)})
	registry, host := w.behind(t, "hang")
	w.put(t, registry, "library/app", "1", image)
	registry.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.Hang})
	w.nodes(t, []*netfarm.Host{host}, brokenUpstream,
		"P2PD_REGISTRY_FIRST_BYTE_TIMEOUT=2s", "P2PD_REGISTRY_STALL_TIMEOUT=3s")
	docker := w.dockerds(t, []*netfarm.Host{host})[0]
	podman, err := host.NewPodman(mirrors)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2 * time.Minute
	atOnce(
		func() {
			w.within(t, limit, "dockerd, blobs hanging", func(ctx context.Context) error { return docker.Pull(ctx, "app:1") })
		},
		func() {
			w.within(t, limit, "podman, blobs hanging", func(ctx context.Context) error {
				// podman does not fall back for a blob: it is its right to fail, in time.
				_ = podman.Pull(ctx, "docker.io/library/app:1")
				return ctx.Err()
			})
		},
	)
	if err := registry.ClearFault(""); err != nil {
		t.Fatal(err)
	}
	w.within(t, limit, "podman, the upstream being well again", func(ctx context.Context) error {
		return netfarm.Poll(ctx, func(ctx context.Context) error { return podman.Pull(ctx, "docker.io/library/app:1") })
	})
}

// The node is killed, in the middle of a pull and before one. The engine goes to the upstream itself.
func TestAnEngineFallsBackWhenItsNodeIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "dockerd", "docker", "containerd", "ctr", "podman")
	first := w.image(t, w.hub, "team/first", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(44, 4*mib)})
	image := w.image(t, w.hub, "library/app", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(45, 2*mib, 4096)})
	hosts := w.hosts(t, "h", 1)
	node := w.nodes(t, hosts, "")[0]
	docker := w.dockerds(t, hosts)[0]

	// The layer stops in the middle at the stand-in, so that the node is killed while its client reads.
	layer := first.Layers[0].Digest.String()
	id := w.hub.MustFault(hub.Fault{Kind: hub.Blob, Method: http.MethodGet, Ref: layer, Do: hub.HangAt, At: 2 * mib})
	pulled := make(chan error, 1)
	go func() { pulled <- docker.Pull(w.ctx, "team/first:1") }()
	err := netfarm.Poll(w.ctx, func(context.Context) error {
		if w.hub.Stats().Blobs[layer].Bytes < 2*mib {
			return errNotYet
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	node.Kill()
	if err := w.hub.ClearFault(id); err != nil {
		t.Fatal(err)
	}
	w.within(t, 2*time.Minute, "dockerd, the node being killed meanwhile", func(ctx context.Context) error {
		select {
		case err := <-pulled:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	w.pullWith(t, docker, hosts[0], image)
}
