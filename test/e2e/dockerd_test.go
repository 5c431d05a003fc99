package e2e

import (
	"context"
	"encoding/json"
	"runtime"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// maxUpstreamRatio bounds what the stand-in may write to sockets, headers and TLS records included, for each byte of an
// image.
const maxUpstreamRatio = 1.002

// Four hosts pull an image at once that no one has. It crosses the upstream link once, whatever its format.
func TestFarmOfDockerdsPullsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "dockerd", "docker")
	quay := w.upstream(t, "quay", hub.Config{AuthOff: true, NoRedirect: true}, netfarm.OneName("quay.io"))
	hosts := w.hosts(t, "h", 4)
	docker := w.dockerds(t, hosts)
	w.nodes(t, hosts, "upstreams: {quay.io: {}}\n")

	t.Run("schema 2", func(t *testing.T) {
		image := w.image(t, w.hub, "library/app", "1", images.Spec{
			Docker: true, Packing: images.GzipStored, Layers: images.RandomLayers(1, 64*mib, 32*mib, 8*mib, 100<<10),
		})
		pullOnAll(t, w, docker, "app:1", image)
		crossedOnce(t, w.hub, map[string]*images.Image{"library/app:1": image})
		stats := w.hub.Stats()
		ratio := float64(stats.SocketBytes) / float64(image.UniqueBytes())
		t.Logf("%d bytes crossed the upstream link, %.5f of the image's; %d connections, %d requests for tokens",
			stats.SocketBytes, ratio, stats.Connections, stats.TokenRequests)
		if ratio > maxUpstreamRatio {
			t.Errorf("%.5f bytes crossed the upstream link for each of the image's; want at most %v: %v", ratio, maxUpstreamRatio, stats.Sockets)
		}
		if stats.ManifestHeads > 1 {
			t.Errorf("the tag was asked for %d times; want once for the farm", stats.ManifestHeads)
		}
	})
	t.Run("OCI", func(t *testing.T) {
		w.hub.Reset()
		image := w.image(t, w.hub, "team/tool", "v1.2", images.Spec{
			Packing: images.Gzip, Layers: images.RandomLayers(2, 8*mib, 3*mib, 2048),
		})
		pullOnAll(t, w, docker, "team/tool:v1.2", image)
		crossedOnce(t, w.hub, map[string]*images.Image{"team/tool:v1.2": image})
	})
	t.Run("one platform of several", func(t *testing.T) {
		w.hub.Reset()
		pullOnePlatform(t, w, docker)
	})
	t.Run("second registry by path", func(t *testing.T) {
		image := w.image(t, quay, "team/tool", "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(5, 4*mib)})
		pullOnAll(t, w, docker, "127.0.0.1:5000/quay.io/team/tool:1", image)
		crossedOnce(t, quay, map[string]*images.Image{"team/tool:1": image})
	})
	t.Run("status", func(t *testing.T) {
		status := w.status(t, hosts[0])
		if status.Totals.Answered != len(hosts) || !status.Ring.Agree {
			t.Errorf("p2pctl status: %d members answered, one ring: %t; want %d of one ring", status.Totals.Answered, status.Ring.Agree, len(hosts))
		}
		// All pulled about 115 MiB, a quarter of which crossed the upstream link.
		if got := status.Totals; got.SavedBytes < 2*got.UpstreamBytes || got.Served.Bytes() < got.SavedBytes || got.Peers.BytesReceived == 0 {
			t.Errorf("p2pctl status: %d bytes served, %d from upstream, %d saved, %d from peers; want three quarters saved",
				got.Served.Bytes(), got.UpstreamBytes, got.SavedBytes, got.Peers.BytesReceived)
		}
	})
}

// status is what p2pctl on the host says.
func (w *world) status(t *testing.T, h *netfarm.Host) adminapi.FarmStatus {
	t.Helper()
	var status adminapi.FarmStatus
	out, err := h.Run(w.ctx, netfarm.Spec{Args: []string{w.programs.p2pctl, "--address", "http://127.0.0.1:5080", "status", "--output", "json"}})
	if err == nil {
		err = json.Unmarshal([]byte(out), &status)
	}
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// pullOnAll pulls the image with all engines at once and fails the test unless all have it.
func pullOnAll(t *testing.T, w *world, docker []*netfarm.Docker, name string, image *images.Image) {
	t.Helper()
	w.within(t, time.Minute, "pull on all hosts", func(ctx context.Context) error {
		onAll(t, docker, func(_ int, d *netfarm.Docker) error { return d.Pull(ctx, name) })
		return nil
	})
	for i, d := range docker {
		if id, err := d.ImageID(w.ctx, name); err != nil || id != image.Config.Digest.String() {
			t.Errorf("host %d has image id %q, %v; want %s", i+1, id, err, image.Config.Digest)
		}
	}
}

func pullOnePlatform(t *testing.T, w *world, docker []*netfarm.Docker) {
	t.Helper()
	var platforms []*images.Image
	for i, architecture := range []string{runtime.GOARCH, "riscv64", "s390x"} {
		platforms = append(platforms, w.image(t, w.hub, "library/multi", "", images.Spec{
			Packing: images.Gzip, Layers: images.RandomLayers(uint64(10+i), 4*mib),
			Platform: v1.Platform{OS: "linux", Architecture: architecture},
		}))
	}
	index, err := images.Index(platforms...)
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, w.hub, "library/multi", "latest", index)
	own := platforms[0]
	pullOnAll(t, w, docker, "multi", own)

	onlyIndex := *index
	onlyIndex.Children = nil
	crossedOnce(t, w.hub, map[string]*images.Image{"library/multi:latest": &onlyIndex, "library/multi@" + own.Digest.String(): own})
}
