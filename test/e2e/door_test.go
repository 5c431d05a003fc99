package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// TestARegistryOfTheFarmServesOtherHostsByTheFarmsCA: a host without a node pulls and pushes at a node's registry over TLS.
// It trusts the farm's CA by the file that p2pctl writes; without it, it gets nothing. Pushing takes a user.
func TestARegistryOfTheFarmServesOtherHostsByTheFarmsCA(t *testing.T) {
	w := newWorld(t, "podman")
	hosts, client := w.hosts(t, "n", 2), w.hosts(t, "c", 1)[0]
	users := filepath.Join(w.farm.Dir(), "users")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err == nil {
		err = os.WriteFile(users, []byte("alice:"+string(hash)+"\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	nodes := make([]*netfarm.Node, len(hosts))
	onAll(t, hosts, func(i int, h *netfarm.Host) (err error) {
		nodes[i], err = h.StartNode(w.ctx, w.programs.p2pd, h.NodeConfig(hosts...), "P2PD_REGISTRY_TLS_MODE=farm",
			fmt.Sprintf("P2PD_REGISTRY_LISTEN=127.0.0.1:5000,%s:5000", h.Addr()), "P2PD_REGISTRY_USERS_FILE="+users)
		return err
	})
	if err := netfarm.WaitFarm(w.ctx, nodes...); err != nil {
		t.Fatal(err)
	}
	hasCatalog(t, nodes...)
	image := w.image(t, w.hub, "library/app", "1", images.Spec{Docker: true, Packing: images.Gzip, Layers: images.RandomLayers(71, 2*mib, mib)})

	names := maps.Clone(w.names)
	names["farm.internal"] = hosts[0].Addr()
	if err := client.Resolve(names); err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(client.Dir(), "certs.d")
	ca, err := hosts[1].Run(w.ctx, netfarm.Spec{Args: []string{w.programs.p2pctl, "trust", "ca", "--address", "http://127.0.0.1:5080"}})
	if err == nil {
		err = os.MkdirAll(certs, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(certs, "ca.crt"), []byte(ca), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	podman, err := client.NewPodman("")
	if err != nil {
		t.Fatal(err)
	}
	byAddress := func(i int) string { return hosts[i].Addr().String() + ":5000" }
	const byName = "farm.internal:5000/farm.internal/team/app:1"
	trusting := func(ctx context.Context, args ...string) error {
		_, err := podman.CLI(ctx, append([]string{args[0], "--cert-dir", certs}, args[1:]...)...)
		return err
	}
	refused := func(what, why string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v; want %q", what, err, why)
		}
	}
	for i, n := range nodes {
		ctx, cancel := context.WithTimeout(w.ctx, pullTime)
		err := netfarm.Poll(ctx, func(ctx context.Context) error { return trusting(ctx, "pull", byAddress(i)+"/docker.io/library/app:1") })
		cancel()
		if err != nil {
			t.Errorf("pull at %s with the CA: %v\n%s", hosts[i].Name(), err, n.Log())
		}
		_, err = podman.CLI(w.ctx, "pull", byAddress(i)+"/docker.io/library/app:1")
		refused("pull at "+hosts[i].Name()+" without the CA", "x509", err)
	}
	upstream := byAddress(0) + "/docker.io/library/app:1"
	refused("push by nobody", "authentication", trusting(w.ctx, "push", upstream, byName))
	refused("push with a wrong password", "authentication", trusting(w.ctx, "push", "--creds", "alice:wrong", upstream, byName))
	if err := trusting(w.ctx, "push", "--creds", "alice:secret", upstream, byName); err != nil {
		t.Fatalf("push by a user: %v", err)
	}
	pulled := byAddress(1) + "/farm.internal/team/app:1"
	if err := trusting(w.ctx, "pull", pulled); err != nil {
		t.Errorf("pull by nobody at the other node: %v", err)
	}
	if err := wants(image.Config.Digest.Hex())(podman.ImageID(w.ctx, pulled)); err != nil {
		t.Error(err)
	}
}
