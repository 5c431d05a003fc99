package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// How dockerd 20.10 logs in at a mirror, from moby's distribution and registry folders and what was read off the wire here:
//
// Each pull asks each endpoint, the mirrors first and Docker Hub last, for /v2/ without credentials. Only a challenge in that
// answer counts: a 200 there means that no request of the pull carries an Authorization, whatever a later 401 asks for. With
// a Bearer challenge dockerd asks the realm, GET with account, service and scope=repository:NAME:pull, and the user's
// password as Basic, or without one; a realm is given the login for Docker Hub whatever its host. The token goes on every
// request of the pull to that endpoint, and is not kept for the next pull. (With a Basic challenge the mirror itself would
// get the password.) For a mirror every error that the registry or the token service answers is a reason to go on to the
// next endpoint (continueOnError with mirrorEndpoint), and so is an unreachable token service; then the whole pull begins
// anew. So Docker Hub's answer is the one that the user reads.
//
// mirror_auth off, private image:  node: GET /v2/ 200 -> HEAD manifests/TAG 401 -> GET manifests/TAG 401, no Authorization;
// then all of it from Docker Hub with the user's token. A pull that both refuse takes about 0.1 s.
// mirror_auth bearer:  node: GET /v2/ 401 -> token service -> HEAD manifests/TAG -> GET manifests/DIGEST -> GET blobs, each
// with the token; also of public images, with a token of nobody's where there is no login. 127.0.0.1:5000/NAME is the same
// registry to dockerd: names with farm.internal or another upstream in them get the same challenge, and a login for
// 127.0.0.1:5000 is sent to the realm, not to the node.
//
// The token service being down, with mirror_auth off: what everybody may read and the farm has is pulled as ever, pushed
// content as well; what is private is not, since Docker Hub wants a token, too. With mirror_auth bearer dockerd pulls
// nothing through the node and nothing from Docker Hub, cached or not, and nothing by 127.0.0.1:5000/…, which has no other
// endpoint: after 0.1 s when connections are refused or 503 is answered, after 15 s for each endpoint when it hangs (30 s for
// a name of Docker Hub's). containerd, which asks for no /v2/, still gets what everybody may read in either mode. Nobody
// gets what is private by way of a token; once the service is back the next pull works.

// dockerPulls has a user's docker pull an image, and forgets the image when it has come.
func dockerPulls(docker *netfarm.Docker, image string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := docker.Pull(ctx, image); err != nil {
			return err
		}
		_, err := docker.CLI(ctx, "rmi", image)
		return err
	}
}

// dockersOf logs a user in at Docker Hub on all hosts.
func (f *privateFarm) dockersOf(t *testing.T, daemons []*netfarm.Docker, who netfarm.Login) []*netfarm.Docker {
	t.Helper()
	as := make([]*netfarm.Docker, len(daemons))
	onAll(t, daemons, func(i int, d *netfarm.Docker) (err error) {
		as[i], err = d.Login(f.ctx, who)
		return err
	})
	return as
}

// withoutMirror is a dockerd of a host that has no node.
func (f *privateFarm) withoutMirror(t *testing.T) *netfarm.Docker {
	t.Helper()
	daemon, err := f.world.hosts(t, "plain", 1)[0].StartDockerd(f.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return daemon
}

// daemonSays is what a docker client reports of its daemon's error.
func daemonSays(err error) string {
	if err == nil {
		return "no error"
	}
	_, said, _ := strings.Cut(err.Error(), "Error response from daemon: ")
	return said
}

// strangersAreRefused fails the test unless the dockers of bob and of nobody get nothing, and are told what they would be
// told without a mirror.
func (f *privateFarm) strangersAreRefused(t *testing.T, docker, ofBob []*netfarm.Docker, plain, plainOfBob *netfarm.Docker) {
	t.Helper()
	const repo, name = "team/secret", "team/secret:1"
	for who, all := range map[string]struct {
		plain  *netfarm.Docker
		docker []*netfarm.Docker
	}{"nobody": {plain, docker}, "bob": {plainOfBob, ofBob}} {
		want := daemonSays(all.plain.Pull(f.ctx, name))
		for _, d := range all.docker {
			var got error
			f.refuses(t, "docker of "+who, repo, func(ctx context.Context) error { got = d.Pull(ctx, name); return got })
			if said := daemonSays(got); said != want {
				t.Errorf("docker of %s says %q; without a mirror it says %q", who, said, want)
			}
		}
	}
}

// While the node asks for no login dockerd sends it none, and gets what is private from Docker Hub, in its user's name. The
// node gives it only what everybody may read, although the farm itself may read more.
func TestDockerGetsPrivateImagesFromTheHubUnlessAskedToLogIn(t *testing.T) {
	t.Parallel()
	f := newPrivateFarm(t, 2, privacy{credentials: true}, "dockerd", "docker")
	docker, plain := f.dockerds(t, f.hosts), f.withoutMirror(t)
	ofAlice, ofBob := f.dockersOf(t, docker, alice), f.dockersOf(t, append(docker[:2:2], plain), bob)
	secret, public := f.private(t, "team/secret", 80), f.open(t, "library/app", 81)

	f.strangersAreRefused(t, docker, ofBob[:2], plain, ofBob[2])
	crossedTimes(t, f.hub, secret, 0)
	f.hush()
	asAlice := f.hub.Stats().ByUser[alice.User].Requests
	for _, d := range ofAlice {
		f.within(t, pullTime, "docker of alice, private", dockerPulls(d, "team/secret:1"))
	}
	crossedTimes(t, f.hub, secret, int64(len(docker)))
	if got := f.hub.Stats().ByUser[alice.User].Requests - asAlice; got < int64(len(secret.Blobs())) {
		t.Errorf("Docker Hub answered %d requests in alice's name; want one for each blob at least", got)
	}
	for _, d := range []*netfarm.Docker{docker[0], ofAlice[0], ofBob[1]} {
		f.within(t, pullTime, "docker, public", dockerPulls(d, "app:1"))
	}
	crossedTimes(t, f.hub, public, 1)
	for i, w := range f.wires {
		said := w.take()
		if said.with("") > 0 {
			t.Errorf("dockerd sent node %d credentials:\n%s", i+1, said)
		}
		if given := said.about("team/secret").given(); given > 0 {
			t.Errorf("node %d gave away %d bytes:\n%s", i+1, given, said)
		}
		if given := said.about("library/app").given(); given < public.UniqueBytes() {
			t.Errorf("node %d gave %d bytes of a public image; want %d:\n%s", i+1, given, public.UniqueBytes(), said)
		}
	}
	f.strangersAreRefused(t, docker, ofBob[:2], plain, ofBob[2])
}

// Where the node asks for a login what is private comes through the farm for those who may read it. The node sees tokens, and
// never a password.
func TestDockerGetsPrivateImagesThroughAFarmThatAsksItToLogIn(t *testing.T) {
	t.Parallel()
	for _, p := range []privacy{{bearer: true}, {bearer: true, credentials: true}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			f := newPrivateFarm(t, 2, p, "dockerd", "docker")
			docker, plain := f.dockerds(t, f.hosts), f.withoutMirror(t)
			ofAlice, ofBob := f.dockersOf(t, docker, alice), f.dockersOf(t, append(docker[:2:2], plain), bob)
			secret, public := f.private(t, "team/secret", 82), f.open(t, "library/app", 83)
			f.asksToLogIn(t)

			f.strangersAreRefused(t, docker, ofBob[:2], plain, ofBob[2])
			crossedTimes(t, f.hub, secret, 0)
			var said talk
			for at, d := range ofAlice {
				f.hush()
				f.within(t, pullTime, "docker of alice, private", dockerPulls(d, "team/secret:1"))
				here := f.wires[at].take()
				if given := here.about("team/secret").given(); given < secret.UniqueBytes() {
					t.Errorf("node %d gave alice %d bytes; want %d:\n%s", at+1, given, secret.UniqueBytes(), here)
				}
				said = append(said, here...)
			}
			crossedTimes(t, f.hub, secret, 1)
			f.strangersAreRefused(t, docker, ofBob[:2], plain, ofBob[2])
			f.hush()
			for _, d := range []*netfarm.Docker{docker[0], ofAlice[0], ofBob[1]} {
				f.within(t, pullTime, "docker, public", dockerPulls(d, "app:1"))
			}
			crossedTimes(t, f.hub, public, 1)
			for _, w := range f.wires {
				said = append(said, w.take()...)
			}
			if said.with("Basic") > 0 || said.of(alice.User) == 0 {
				t.Errorf("the nodes were sent passwords or no tokens of alice's:\n%s", said)
			}
		})
	}
}

// asksToLogIn fails the test unless /v2/ of each node names the token service of the configuration.
func (f *privateFarm) asksToLogIn(t *testing.T) {
	t.Helper()
	const want = `Bearer realm="` + tokenRealm + `",service="registry.docker.io"`
	for _, h := range f.hosts {
		resp, err := h.Client().Get("http://127.0.0.1:5000/v2/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != want {
			t.Errorf("GET /v2/ of %s = %d, %s; want 401, %s", h.Name(), resp.StatusCode, got, want)
		}
	}
}

// What the farm has is public, private and pushed; then the token service goes. What dockerd still gets depends on whether
// the node asks it to log in. The first comment of this file has the measured facts.
func TestWhatDockerGetsWithoutTheTokenService(t *testing.T) {
	t.Parallel()
	for _, p := range []privacy{{credentials: true}, {credentials: true, bearer: true}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			f := newPrivateFarm(t, 2, p, "dockerd", "docker", "containerd", "ctr")
			hasCatalog(t, f.running...)
			docker := f.dockerds(t, f.hosts)[0]
			ofAlice := f.dockersOf(t, []*netfarm.Docker{docker}, alice)[0]
			daemon, err := f.hosts[0].StartContainerd(f.ctx)
			if err != nil {
				t.Fatal(err)
			}
			f.private(t, "team/secret", 84)
			f.open(t, "library/app", 85)
			const pushed = "127.0.0.1:5000/farm.internal/team/app:1"
			push := func(ctx context.Context) error {
				if _, err := docker.CLI(ctx, "pull", "app:1"); err != nil {
					return err
				}
				if _, err := docker.CLI(ctx, "tag", "app:1", pushed); err != nil {
					return err
				}
				if _, err := docker.CLI(ctx, "push", pushed); err != nil {
					return err
				}
				_, err := docker.CLI(ctx, "rmi", "app:1", pushed)
				return err
			}
			f.within(t, pullTime, "docker, push", push)
			f.within(t, pullTime, "docker, what was pushed", dockerPulls(docker, pushed))
			f.within(t, pullTime, "docker of alice, private", dockerPulls(ofAlice, "team/secret:1"))

			for name, fault := range map[string]hub.Fault{
				"reset": {Kind: hub.Token, Do: hub.Down},
				"503":   {Kind: hub.Token, Do: hub.Status, Status: http.StatusServiceUnavailable},
				"hangs": {Kind: hub.Token, Do: hub.Hang},
			} {
				id := f.hub.MustFault(fault)
				f.gets(t, name+": docker, cached public", !p.bearer, dockerPulls(docker, "app:1"))
				f.gets(t, name+": docker, what was pushed", !p.bearer, dockerPulls(docker, pushed))
				if fault.Do != hub.Hang { // that takes 15 s more
					f.gets(t, name+": docker of alice, cached private", false, dockerPulls(ofAlice, "team/secret:1"))
				}
				f.gets(t, name+": ctr, cached public", true, func(ctx context.Context) error {
					_, err := ctrPull(ctx, daemon, nobody, "docker.io/library/app:1")
					return err
				})
				if err := f.hub.ClearFault(id); err != nil {
					t.Fatal(err)
				}
			}
			f.within(t, pullTime, "docker, public again", dockerPulls(docker, "app:1"))
			f.within(t, pullTime, "docker of alice, private again", dockerPulls(ofAlice, "team/secret:1"))
		})
	}
}

// gets fails the test unless pull ends in time, as it should.
func (f *privateFarm) gets(t *testing.T, what string, want bool, pull func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, pullTime)
	defer cancel()
	start := time.Now()
	err := pull(ctx)
	t.Logf("%s: after %v: %v", what, time.Since(start).Round(10*time.Millisecond), err)
	if ctx.Err() != nil || (err == nil) != want {
		t.Errorf("%s: %v; want an image: %t, within %v", what, err, want, pullTime)
	}
}
