package e2e

import (
	"context"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

const (
	// vanishRate is the upstream link's, in bytes a second, so that the pull is under way for a while.
	vanishRate = 12 * mib
	// maxVanishRatio bounds what crosses the upstream link when an owner goes: what was on its way is lost with it.
	maxVanishRatio = 1.3
)

// One of four hosts goes in the middle of a pull: it loses its power, or its cable. It owns a share of the layers. The
// others end the pull, and do not fetch again what they have.
func TestAHostThatVanishesStopsNobody(t *testing.T) {
	t.Parallel()
	for name, vanish := range map[string]func(context.Context, *netfarm.Host, ...*netfarm.Process) error{
		"power": func(_ context.Context, _ *netfarm.Host, running ...*netfarm.Process) error {
			for _, p := range running {
				p.Kill()
			}
			return nil
		},
		"cable": func(ctx context.Context, h *netfarm.Host, _ ...*netfarm.Process) error { return h.CutOff(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "dockerd", "docker")
			hosts := w.hosts(t, "h", 4)
			docker := w.dockerds(t, hosts)
			nodes := w.nodes(t, hosts, "")
			image := w.image(t, w.hub, "library/app", "1", images.Spec{
				Packing: images.GzipStored, Layers: images.RandomLayers(51, 6*mib, 6*mib, 6*mib, 6*mib, 6*mib, 6*mib, 6*mib, 6*mib),
			})
			w.hub.SetRate(vanishRate)

			last := len(hosts) - 1
			go func() { _ = docker[last].Pull(w.ctx, "app:1") }()
			var group errgroup.Group
			for _, d := range docker[:last] {
				group.Go(func() error { return d.Pull(w.ctx, "app:1") })
			}
			err := netfarm.Poll(w.ctx, func(context.Context) error {
				if w.hub.Stats().BlobBytes < image.UniqueBytes()/3 {
					return errNotYet
				}
				return nil
			})
			if err == nil {
				err = vanish(w.ctx, hosts[last], docker[last].Process, nodes[last].Process)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.within(t, pullTime, "the others' pull", func(context.Context) error { return group.Wait() })
			for i, d := range docker[:last] {
				if id, err := d.ImageID(w.ctx, "app:1"); err != nil || id != image.Config.Digest.String() {
					t.Errorf("host %d has image id %q, %v; want %s", i+1, id, err, image.Config.Digest)
				}
			}
			ratio := float64(w.hub.Stats().BlobBytes) / float64(image.UniqueBytes())
			t.Logf("%.3f bytes crossed the upstream link for each of the image's", ratio)
			if ratio > maxVanishRatio {
				t.Errorf("%.3f bytes crossed the upstream link for each of the image's; want at most %v", ratio, maxVanishRatio)
			}
		})
	}
}
