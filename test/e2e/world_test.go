package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

const mib = 1 << 20

// dockerMirror is the daemon.json that the README tells of.
var dockerMirror = map[string]any{"registry-mirrors": []string{"http://127.0.0.1:5000"}}

// A world is a farm of hosts with a stand-in for Docker Hub outside.
type world struct {
	ctx      context.Context // the test's own
	programs programs
	farm     *netfarm.Farm
	hub      *hub.Hub
	names    map[string]netip.Addr // what hosts resolve
}

// newWorld makes a world without hosts. needs are the programs that the test runs on them.
func newWorld(t *testing.T, needs ...string) *world {
	t.Helper()
	return newWorldFor(t, testTime, needs...)
}

// newWorldFor is newWorld for a test that takes up to limit.
func newWorldFor(t *testing.T, limit time.Duration, needs ...string) *world {
	t.Helper()
	if err := netfarm.Missing(needs...); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("a farm of container engines cannot be made here: %v", err)
	}
	w := &world{ctx: lasting(t, limit), programs: build(t), names: map[string]netip.Addr{}}
	var err error
	w.farm, err = netfarm.New(w.ctx, netfarm.Config{Keep: os.Getenv("KEEP") != ""})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			counters(t, w.farm)
			logTails(t, w.farm)
		}
		if err := w.farm.Close(); err != nil {
			t.Error(err)
		}
	})
	w.hub = w.upstream(t, "hub", hub.Config{}, netfarm.DockerHub())
	return w
}

// upstream adds a registry outside, on a host of its own, that hosts added from now on resolve.
func (w *world) upstream(t *testing.T, name string, cfg hub.Config, names netfarm.HubNames) *hub.Hub {
	t.Helper()
	h, err := w.farm.AddHost(w.ctx, name, netfarm.Link{})
	if err != nil {
		t.Fatal(err)
	}
	started, err := h.StartHub(w.ctx, cfg, names)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(w.names, names.At(h))
	return started
}

// hosts adds n hosts.
func (w *world) hosts(t *testing.T, prefix string, n int) []*netfarm.Host {
	t.Helper()
	hosts := make([]*netfarm.Host, n)
	for i := range hosts {
		h, err := w.farm.AddHost(w.ctx, fmt.Sprintf("%s%d", prefix, i+1), netfarm.Link{})
		if err == nil {
			err = h.Resolve(w.names)
		}
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
	}
	return hosts
}

// nodes starts a node on each host; they make one farm. config and env are what each has besides the
// usual.
func (w *world) nodes(t *testing.T, hosts []*netfarm.Host, config string, env ...string) []*netfarm.Node {
	t.Helper()
	nodes := make([]*netfarm.Node, len(hosts))
	seeds := hosts
	if len(hosts) == 1 {
		seeds = nil
	}
	onAll(t, hosts, func(i int, h *netfarm.Host) (err error) {
		nodes[i], err = h.StartNode(w.ctx, w.programs.p2pd, h.NodeConfig(seeds...)+config, env...)
		return err
	})
	if err := netfarm.WaitFarm(w.ctx, nodes...); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// dockerds starts a dockerd on each host that knows the node there.
func (w *world) dockerds(t *testing.T, hosts []*netfarm.Host) []*netfarm.Docker {
	t.Helper()
	docker := make([]*netfarm.Docker, len(hosts))
	onAll(t, hosts, func(i int, h *netfarm.Host) (err error) {
		docker[i], err = h.StartDockerd(w.ctx, dockerMirror)
		return err
	})
	return docker
}

// onAll does something with all of a list at once, and ends the test if it fails with one.
func onAll[T any](t *testing.T, list []T, do func(int, T) error) {
	t.Helper()
	var group errgroup.Group
	for i, one := range list {
		group.Go(func() error { return do(i, one) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// image makes an image below the farm's folder and puts it into a registry.
func (w *world) image(t *testing.T, registry *hub.Hub, repo, tag string, spec images.Spec) *images.Image {
	t.Helper()
	image, err := images.Build(w.ctx, filepath.Join(w.farm.Dir(), "images"), spec)
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, registry, repo, tag, image)
	return image
}

func (w *world) put(t *testing.T, registry *hub.Hub, repo, tag string, image *images.Image) {
	t.Helper()
	if err := image.AddTo(registry, repo, tag); err != nil {
		t.Fatal(err)
	}
}

// within fails the test if do takes longer than limit, or fails.
func (w *world) within(t *testing.T, limit time.Duration, what string, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	start := time.Now()
	if err := do(ctx); err != nil {
		t.Errorf("%s: after %v: %v", what, time.Since(start).Round(time.Millisecond), err)
		return
	}
	t.Logf("%s took %v", what, time.Since(start).Round(time.Millisecond))
}

// counters shows what the nodes counted of their exchange with peers and the upstream.
func counters(t *testing.T, farm *netfarm.Farm) {
	t.Helper()
	for _, h := range farm.Hosts() {
		resp, err := h.Client().Get("http://127.0.0.1:5080/metrics")
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var lines []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "p2pd_transfer_") && !strings.HasSuffix(line, " 0\n") {
				lines = append(lines, line)
			}
		}
		t.Logf("counters of %s:\n%s", h.Name(), strings.Join(lines, ""))
	}
}

// logTails shows the end of what nodes and engines wrote, without what engines always write.
func logTails(t *testing.T, farm *netfarm.Farm) {
	t.Helper()
	const most = 30 // lines of each
	for _, program := range []string{"p2pd", "dockerd", "containerd"} {
		logs, _ := filepath.Glob(filepath.Join(farm.Dir(), "*", program+".*.log"))
		for _, log := range logs {
			if strings.HasSuffix(log, ".stacks.log") {
				continue // what dockerd had a slow containerd write
			}
			text, _ := os.ReadFile(log)
			var tail []string
			for line := range strings.Lines(string(text)) {
				if program == "p2pd" || !strings.Contains(line, "level=info") {
					tail = append(tail, line)
				}
			}
			if tail = tail[max(0, len(tail)-most):]; len(tail) > 0 {
				t.Logf("%s:\n%s", log, strings.Join(tail, ""))
			}
		}
	}
}
