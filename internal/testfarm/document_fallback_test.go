package testfarm_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// stuck makes a node have no way to the upstream, without its knowing.
func stuck(c *node.Config) {
	u := c.Upstreams[oci.DockerHub]
	u.Client.URL = "http://127.0.0.1:1"
	c.Upstreams[oci.DockerHub] = u
	c.Egress = node.EgressYes
}

func TestAnUpstreamThatIsDownIsNotAskedByTheWholeFarm(t *testing.T) {
	t.Parallel()
	d := oci.FromBytes(oci.SHA256, randomBytes(890, 3000))
	for name, c := range map[string][2]string{
		"manifest": {http.MethodGet, "manifests/" + d.String()}, "tag": {http.MethodGet, "manifests/latest"},
		"list": {http.MethodGet, "tags/list"}, "confirmation": {http.MethodHead, "blobs/" + d.String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testfarm.Start(t, testfarm.Options{Nodes: 6, Change: func(_ int, c *node.Config) { c.Egress = node.EgressYes }})
			put(t, f, 890, 3000, "library/stampede")
			for _, kind := range []hub.Kind{hub.Manifest, hub.Tags, hub.Redirect, hub.Blob} {
				f.Hub.MustFault(hub.Fault{Kind: kind, Do: hub.Status, Status: http.StatusServiceUnavailable})
			}
			began := time.Now()
			var asks []func() error
			for _, n := range slices.Repeat(f.Nodes, 8) {
				asks = append(asks, func() error {
					if r := n.Ask(t.Context(), c[0], "library/stampede/"+c[1]); r.Status != http.StatusServiceUnavailable {
						return fmt.Errorf("%s %s at %s = %d %s; want 503", c[0], c[1], n.ID(), r.Status, r.Body)
					}
					return nil
				})
			}
			atOnce(t, asks...)
			took := time.Since(began)
			for _, n := range f.Nodes {
				if went, most := n.Transfer().Fallbacks, int64(4+took/time.Second); went > most {
					t.Errorf("for %s %s node %s went to an upstream that is down %d times in %v after the owner and its successor could not ask it; want %d at most",
						c[0], c[1], n.ID(), went, took, most)
				}
			}
		})
	}
}

func TestAnOwnerWithoutAWayToTheUpstreamCostsNoAnswer(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3, Change: func(i int, c *node.Config) {
		if i == 0 {
			stuck(c)
		}
	}})
	owned := 0
	for seed := range uint64(20) {
		repo := oci.Repository{Upstream: oci.DockerHub, Path: fmt.Sprintf("library/stuck%d", seed)}
		i := image(t, f, 900+seed, repo.Path, "latest", 3000)
		d := oci.MustDigest(i.Layers[0].Digest.String())
		if f.OwnerOfTag(repo, "latest") == f.Nodes[0] || f.Owner(oci.MustDigest(i.Digest.String())) == f.Nodes[0] || f.Owner(d) == f.Nodes[0] {
			owned++
		}
		for k := range 2 { // the node itself and another one
			n := f.Nodes[k]
			r := n.Ask(t.Context(), http.MethodHead, repo.Path+"/manifests/latest", acceptAll...)
			if r.Status != http.StatusOK || r.Header.Get("Docker-Content-Digest") != i.Digest.String() {
				t.Errorf("HEAD of a tag at %d = %d %s; want it through another node", k, r.Status, r.Body)
			}
			manifestAt(t, n, repo.Path, i)
			if r := n.Ask(t.Context(), http.MethodHead, repo.Path+"/blobs/"+d.String()); r.Status != http.StatusOK {
				t.Errorf("HEAD of a blob at %d = %d %s; want it through another node", k, r.Status, r.Body)
			}
			if r := n.Ask(t.Context(), http.MethodGet, repo.Path+"/tags/list"); r.Status != http.StatusOK {
				t.Errorf("GET of a tags list at %d = %d %s; want it through another node", k, r.Status, r.Body)
			}
		}
	}
	if owned == 0 {
		t.Fatal("the node without a way to the upstream owns nothing; the test proves nothing")
	}
}

func TestANodeThatReachesTheUpstreamNeedsNoOwnerThatDoes(t *testing.T) {
	t.Parallel()
	for name, may := range map[string]bool{"direct": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testfarm.Start(t, testfarm.Options{Nodes: 4, Change: func(i int, c *node.Config) {
				c.Transfer.UpstreamFallback = may
				if i > 0 {
					stuck(c)
				}
			}})
			repo := "library/lonely"
			i := image(t, f, 950, repo, "latest", 3000)
			want := http.StatusServiceUnavailable
			d := oci.MustDigest(i.Digest.String())
			for seed := uint64(951); f.Owner(d) == f.Nodes[0] || f.Successor(d) == f.Nodes[0]; seed++ {
				i = image(t, f, seed, repo, "latest", 3000)
				d = oci.MustDigest(i.Digest.String())
			}
			if may {
				want = http.StatusOK
			}
			if r := f.Nodes[0].Ask(t.Context(), http.MethodGet, repo+"/manifests/"+i.Digest.String(), acceptAll...); r.Status != want {
				t.Errorf("GET of a manifest whose owners reach no upstream = %d %s; want %d", r.Status, r.Body, want)
			}
		})
	}
}

func TestANodeAloneAsksTheUpstreamOnlyIfItMay(t *testing.T) {
	t.Parallel()
	for name, may := range map[string]bool{"direct": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testfarm.Start(t, testfarm.Options{Nodes: 2, Change: func(_ int, c *node.Config) {
				c.Transfer.UpstreamFallback, c.Egress = may, node.EgressYes
			}})
			left, gone := f.Nodes[0], f.Nodes[1]
			repo, i := oci.Repository{Upstream: oci.DockerHub, Path: "library/alone"}, &images.Image{}
			for seed := uint64(930); i.Raw == nil || f.Owner(oci.MustDigest(i.Digest.String())) != gone; seed++ {
				i = image(t, f, seed, repo.Path, "latest", 3000)
			}
			for f.OwnerOfTag(repo, "latest") != gone {
				repo.Path += "-x"
			}
			if err := i.AddTo(f.Hub, repo.Path, "latest"); err != nil {
				t.Fatal(err)
			}
			gone.Stop()
			before := left.MustStatus().Upstream.Requests
			want := http.StatusServiceUnavailable
			if may {
				want = http.StatusOK
			}
			for _, reference := range []string{i.Digest.String(), "latest"} {
				if r := left.Ask(t.Context(), http.MethodGet, repo.Path+"/manifests/"+reference, acceptAll...); r.Status != want {
					t.Errorf("GET %s at a node that is alone = %d %.200s; want %d", reference, r.Status, r.Body, want)
				}
			}
			asked := left.MustStatus().Upstream.Requests - before
			if may != (asked > 0) || may != (left.Transfer().Fallbacks > 0) {
				t.Errorf("a node that is alone and may ask the upstream (%v) sent %d requests and counted %d", may, asked, left.Transfer().Fallbacks)
			}
		})
	}
}
