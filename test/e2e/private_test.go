package e2e

import (
	"context"
	"testing"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// alice pulls a private image with each client on two hosts, and it crosses the upstream link once. Before and after, bob
// and nobody get none of it, from the node or from the upstream. What a client does that does not send its user's
// credentials to a mirror is seen, too: the node gives it nothing, and Docker Hub gives it all.
func TestPrivateImagesAreForThoseWhomTheUpstreamGivesThem(t *testing.T) {
	t.Parallel()
	for _, p := range []privacy{{}, {credentials: true}, {bearer: true}, {bearer: true, credentials: true}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			f := newPrivateFarm(t, 2, p, "containerd", "ctr", "podman", "skopeo")
			clients := [][]privateClient{f.privateClients(t, f.hosts[0], p.bearer), f.privateClients(t, f.hosts[1], p.bearer)}
			for i, c := range clients[0] {
				t.Run(c.name, func(t *testing.T) { f.sharesWithAlice(t, uint64(70+i), c, clients[1][i]) })
			}
		})
	}
}

// sharesWithAlice has all try to pull an image with a client on the first host and then on the second one.
func (f *privateFarm) sharesWithAlice(t *testing.T, seed uint64, clients ...privateClient) {
	t.Helper()
	repo := "team/" + clients[0].name
	image, name := f.private(t, repo, seed), "docker.io/"+repo+":1"
	strangers := func(c privateClient) {
		t.Helper()
		for _, who := range []netfarm.Login{nobody, bob} {
			f.refuses(t, c.name+" of "+who.User, repo, func(ctx context.Context) error {
				_, err := c.pull(ctx, who, name)
				return err
			})
		}
	}
	strangers(clients[0])
	crossedTimes(t, f.hub, image, 0)
	for at, c := range clients {
		f.hush()
		f.within(t, pullTime, c.name+" of alice", func(ctx context.Context) error {
			got, err := c.pull(ctx, alice, name)
			return isImage(image, got, err)
		})
		said := f.wires[at].take()
		t.Logf("alice's %s and node %d:\n%s", c.name, at+1, said)
		f.aliceSaid(t, c, image, repo, said)
		strangers(c)
	}
	times := int64(1)
	if !clients[0].byFarm {
		times = int64(len(clients))
	}
	crossedTimes(t, f.hub, image, times)
}

// aliceSaid checks what her client and a node said to each other.
func (f *privateFarm) aliceSaid(t *testing.T, c privateClient, image *images.Image, repo string, said talk) {
	t.Helper()
	given := said.about(repo).given()
	switch {
	case c.byFarm && given < image.UniqueBytes():
		t.Errorf("the node gave alice's %s %d bytes; want the image's %d", c.name, given, image.UniqueBytes())
	case !c.byFarm && given > 0:
		t.Errorf("the node gave %d bytes to a %s that sent it nobody's credentials", given, c.name)
	}
	if got := said.with("Basic") > 0; got != c.password {
		t.Errorf("%s sent the node alice's password: %t; want %t", c.name, got, c.password)
	}
	if got := said.of(alice.User) > 0; got != c.byFarm {
		t.Errorf("%s sent the node credentials of alice's: %t; want %t", c.name, got, c.byFarm)
	}
}
