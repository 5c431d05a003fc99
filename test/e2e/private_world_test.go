package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// Who may do what: alice and the farm's own user may read what is private, bob may not, nobody has no login.
var (
	alice     = netfarm.Login{User: "alice", Password: "a-pass"}
	bob       = netfarm.Login{User: "bob", Password: "b-pass"}
	farmLogin = netfarm.Login{User: "farm", Password: "f-pass"}
	nobody    = netfarm.Login{}
)

// tokenRealm is the stand-in's token service.
const tokenRealm = "https://auth.docker.io:444/token"

// A privateFarm is a farm whose Docker Hub has private images. Each host has a wire in front of its node.
type privateFarm struct {
	*world
	hosts   []*netfarm.Host
	running []*netfarm.Node
	wires   []*wire
}

// How the nodes of a privateFarm are configured.
type privacy struct {
	credentials bool   // the farm has some of its own
	bearer      bool   // mirror_auth
	upstream    string // more keys of docker.io's, as "key: value, "
}

func (p privacy) String() string {
	text := "mirror_auth off"
	if p.bearer {
		text = "mirror_auth bearer"
	}
	if p.credentials {
		return text + ", the farm has credentials"
	}
	return text + ", only users have credentials"
}

// newPrivateFarm makes a farm of n hosts.
func newPrivateFarm(t *testing.T, n int, p privacy, needs ...string) *privateFarm {
	t.Helper()
	w := newWorld(t, needs...)
	for _, user := range []netfarm.Login{alice, bob, farmLogin} {
		w.hub.SetPassword(user.User, user.Password)
	}
	upstream, mirror := p.upstream+"auth_realm: "+tokenRealm+", auth_service: registry.docker.io", "off"
	if p.credentials {
		file := filepath.Join(w.farm.Dir(), "farm-password")
		if err := os.WriteFile(file, []byte(farmLogin.Password), 0o600); err != nil {
			t.Fatal(err)
		}
		upstream += fmt.Sprintf(", username: %s, password_file: %s", farmLogin.User, file)
	}
	if p.bearer {
		mirror = "bearer"
	}
	f := &privateFarm{world: w, hosts: w.hosts(t, "h", n)}
	for _, h := range f.hosts {
		f.wires = append(f.wires, w.wire(t, h))
	}
	f.running = w.nodes(t, f.hosts, fmt.Sprintf("mirror_auth: \"%s\"\nupstreams: {docker.io: {%s}}\n", mirror, upstream), listenBehindWire)
	return f
}

// private puts an image into a repository that only alice and the farm may read.
func (f *privateFarm) private(t *testing.T, repo string, seed uint64) *images.Image {
	t.Helper()
	f.hub.SetReaders(repo, alice.User, farmLogin.User)
	return f.open(t, repo, seed)
}

// open puts an image into a repository.
func (f *privateFarm) open(t *testing.T, repo string, seed uint64) *images.Image {
	t.Helper()
	return f.image(t, f.hub, repo, "1", images.Spec{Packing: images.Gzip, Layers: images.RandomLayers(seed, 3*mib, mib, 2048)})
}

// refuses fails the test unless pull fails, in time, and the nodes gave away nothing of the repository.
func (f *privateFarm) refuses(t *testing.T, what, repo string, pull func(context.Context) error) {
	t.Helper()
	f.hush()
	ctx, cancel := context.WithTimeout(f.ctx, pullTime)
	defer cancel()
	err := pull(ctx)
	switch {
	case err == nil:
		t.Errorf("%s: got the image", what)
	case ctx.Err() != nil:
		t.Errorf("%s: %v; want a refusal within %v", what, err, pullTime)
	}
	for i, w := range f.wires {
		if said := w.take().about(repo); said.given() > 0 {
			t.Errorf("%s: node %d gave away %d bytes:\n%s", what, i+1, said.given(), said)
		}
	}
}

// hush forgets what was said so far.
func (f *privateFarm) hush() {
	for _, w := range f.wires {
		w.take()
	}
}

// crossedTimes fails the test unless each blob of the image was read from the registry that often, byte by byte.
func crossedTimes(t *testing.T, registry *hub.Hub, image *images.Image, times int64) {
	t.Helper()
	stats := registry.Stats()
	for _, b := range image.Blobs() {
		if got := stats.Blobs[b.Digest.String()]; got.Bytes != times*b.Size {
			t.Errorf("blob %s: %d bytes crossed the upstream link in %d requests; want %d times %d",
				b.Digest, got.Bytes, got.Gets, times, b.Size)
		}
	}
}

// isImage is err, or says that a client has something else.
func isImage(image *images.Image, got string, err error) error {
	got = strings.TrimPrefix(strings.TrimSpace(got), "sha256:")
	if err == nil && got != image.Config.Digest.Hex() && got != image.Digest.Hex() {
		err = errors.New("got " + got + "; want configuration " + image.Config.Digest.Hex() + " or manifest " + image.Digest.Hex())
	}
	return err
}
