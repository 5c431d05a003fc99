package testfarm_test

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// pulled has alice pull all of an image at a node.
func pulled(t *testing.T, f *testfarm.Farm, n *testfarm.Node, i *images.Image) {
	t.Helper()
	alice := bearer(t, f.Hub, "alice", secretRepo)
	for _, c := range allWays(nameForms["as dockerd"], secretRepo, i) {
		if r := n.Ask(t.Context(), c.method, c.path, append(alice, c.header...)...); r.Status != c.want {
			t.Fatalf("%s %s as alice = %d %.200s; want %d", c.method, c.path, r.Status, r.Body, c.want)
		}
	}
}

func status(t *testing.T, n *testfarm.Node, method, path string, header ...string) int {
	t.Helper()
	r := n.Ask(t.Context(), method, path, header...)
	if r.Err != nil {
		t.Errorf("%s %s: %v", method, path, r.Err)
	}
	return r.Status
}

// TestKnowingADigestIsNoRight: a private blob or manifest that the farm has is asked for through repositories that have it
// not, by whatever name.
func TestKnowingADigestIsNoRight(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 3, true, nil)
	hidden := image(t, f, 4300, secretRepo, "latest", 1<<20)
	image(t, f, 4301, openRepo, "latest", 3000)
	pulled(t, f, f.Nodes[0], hidden)
	for at, n := range f.Nodes {
		if got := status(t, n, http.MethodGet, openRepo+"/manifests/latest", acceptAll...); got != http.StatusOK {
			t.Fatalf("the open repository at node %d = %d", at, got)
		}
		for form, path := range nameForms {
			for _, rest := range []string{
				"blobs/" + hidden.Layers[0].Digest.String(), "blobs/" + hidden.Config.Digest.String(), "manifests/" + hidden.Digest.String(),
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if got := status(t, n, method, path(openRepo, rest), acceptAll...); got != http.StatusNotFound {
						t.Errorf("%s of a private digest through a public repository at node %d %s = %d; want 404", method, at, form, got)
					}
				}
				if got := status(t, n, http.MethodGet, path(openRepo, rest), "Range", "bytes=0-9"); got != http.StatusNotFound {
					t.Errorf("range of a private digest through a public repository at node %d %s = %d; want 404", at, form, got)
				}
			}
		}
	}
}

// TestAManifestGivesNoRightToWhatItNames: somebody publishes a manifest that names a private layer.
func TestAManifestGivesNoRightToWhatItNames(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 3, true, nil)
	hidden := image(t, f, 4400, secretRepo, "latest", 1<<20)
	pulled(t, f, f.Nodes[0], hidden)
	if _, err := f.Hub.PutManifest(openRepo, "hostile", hidden.MediaType, hidden.Raw); err != nil {
		t.Fatal(err)
	}
	for at, n := range f.Nodes {
		if got := status(t, n, http.MethodGet, openRepo+"/manifests/hostile", acceptAll...); got != http.StatusOK {
			t.Errorf("the hostile manifest at node %d = %d; want 200, it is public", at, got)
		}
		for _, b := range hidden.Blobs() {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				if got := status(t, n, method, openRepo+"/blobs/"+b.Digest.String()); got != http.StatusNotFound {
					t.Errorf("%s of a private blob that a public manifest names at node %d = %d; want 404", method, at, got)
				}
			}
		}
	}
}

// TestABlobOfTwoRepositoriesIsReadThroughTheOneThatIsOpen shows that who may read a blob is asked of the repository.
func TestABlobOfTwoRepositoriesIsReadThroughTheOneThatIsOpen(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, nil)
	shared := image(t, f, 4500, secretRepo, "latest", 1<<20)
	if err := shared.AddTo(f.Hub, openRepo, "latest"); err != nil {
		t.Fatal(err)
	}
	pulled(t, f, f.Nodes[0], shared)
	for at, n := range f.Nodes {
		for _, rest := range []string{"blobs/" + shared.Layers[0].Digest.String(), "manifests/" + shared.Digest.String(), "manifests/latest"} {
			if got := status(t, n, http.MethodGet, openRepo+"/"+rest, acceptAll...); got != http.StatusOK {
				t.Errorf("GET %s through the public repository at node %d = %d; want 200", rest, at, got)
			}
			if got := status(t, n, http.MethodGet, secretRepo+"/"+rest, acceptAll...); got != http.StatusUnauthorized {
				t.Errorf("GET %s through the private repository at node %d = %d; want 401", rest, at, got)
			}
		}
	}
	if got := crossed(f, shared.Layers[0].Digest); got != 1<<20 && got > shared.Layers[0].Size+1<<20 {
		t.Errorf("%d bytes of a blob of %d crossed", got, shared.Layers[0].Size)
	}
}

// TestARightThatTheUpstreamTakesBackEnds within what is remembered of it, on every node.
func TestARightThatTheUpstreamTakesBackEnds(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, func(_ int, c *node.Config) { remember(c, rememberOf, time.Hour) })
	hidden := image(t, f, 4600, secretRepo, "latest", 1<<20)
	alice := bearer(t, f.Hub, "alice", secretRepo)
	paths := []string{"/manifests/latest", "/manifests/" + hidden.Digest.String(), "/blobs/" + hidden.Layers[0].Digest.String()}
	for _, n := range f.Nodes {
		pulled(t, f, n, hidden)
	}
	f.Hub.SetReaders(secretRepo, farmUser)
	f.Hub.RevokeTokens()
	for at, n := range f.Nodes {
		f.Eventually("the end of alice's right", func() bool {
			return status(t, n, http.MethodGet, secretRepo+paths[0], append(alice, acceptAll...)...) == http.StatusUnauthorized
		})
		for _, path := range paths {
			if got := status(t, n, http.MethodGet, secretRepo+path, append(alice, acceptAll...)...); got != http.StatusUnauthorized {
				t.Errorf("GET %s at node %d after alice's right has ended = %d; want 401", path, at, got)
			}
		}
	}
}

// TestARepositoryThatBecomesPrivateIsPrivateHere, too, once its tag has been asked for again.
func TestARepositoryThatBecomesPrivateIsPrivateHere(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, nil)
	i := image(t, f, 4650, openRepo, "latest", 1<<20)
	blob := openRepo + "/blobs/" + i.Layers[0].Digest.String()
	for _, n := range f.Nodes {
		if got := status(t, n, http.MethodGet, openRepo+"/manifests/latest", acceptAll...); got != http.StatusOK {
			t.Fatalf("GET of a public tag = %d", got)
		}
		if got := status(t, n, http.MethodGet, blob); got != http.StatusOK {
			t.Fatalf("GET of a public blob = %d", got)
		}
	}
	f.Hub.SetReaders(openRepo, "alice")
	f.Hub.RevokeTokens()
	for _, n := range f.Nodes {
		f.Eventually("the repository's becoming private", func() bool {
			return status(t, n, http.MethodGet, openRepo+"/manifests/latest", acceptAll...) == http.StatusUnauthorized
		})
		if got := status(t, n, http.MethodGet, blob); got != http.StatusUnauthorized {
			t.Errorf("GET of a cached blob of a repository that has become private = %d; want 401", got)
		}
	}
}

// TestWhatComesAfterARepositoryBecamePrivateIsGivenToNobody: not even in the answer by which the farm finds out.
func TestWhatComesAfterARepositoryBecamePrivateIsGivenToNobody(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]func(i *images.Image) string{
		"by tag":      func(*images.Image) string { return "/manifests/latest" },
		"by digest":   func(i *images.Image) string { return "/manifests/" + i.Digest.String() },
		"a layer":     func(i *images.Image) string { return "/blobs/" + i.Layers[0].Digest.String() },
		"a small one": func(i *images.Image) string { return "/blobs/" + i.Config.Digest.String() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := privateFarm(t, 2, true, nil)
			image(t, f, 4690, openRepo, "latest", 1<<20)
			for _, n := range f.Nodes {
				if got := status(t, n, http.MethodGet, openRepo+"/manifests/latest", acceptAll...); got != http.StatusOK {
					t.Fatalf("GET of a public tag = %d", got)
				}
			}
			f.Hub.SetReaders(openRepo, "alice", farmUser)
			f.Hub.RevokeTokens()
			fresh := image(t, f, 4691, openRepo, "latest", 1<<20)
			for at, n := range f.Nodes {
				for range 2 {
					r := n.Ask(t.Context(), http.MethodGet, openRepo+path(fresh), acceptAll...)
					if r.Status == http.StatusOK && (name != "by tag" || r.Header.Get("Docker-Content-Digest") == fresh.Digest.String()) {
						t.Errorf("GET of what came after the repository became private at node %d = 200; want 401", at)
					}
				}
			}
		})
	}
}

// TestWhatAnUpstreamHidesIsHiddenHere: one that says 404 of what is private is not outdone by a 401.
func TestWhatAnUpstreamHidesIsHiddenHere(t *testing.T) {
	t.Parallel()
	f := privateFarmAt(t, hub.Config{Hide: true}, 3, true, nil)
	hidden := image(t, f, 4670, secretRepo, "latest", 1<<20)
	alice, bob := bearer(t, f.Hub, "alice", secretRepo), bearer(t, f.Hub, "bob", secretRepo)
	for at, n := range f.Nodes {
		for _, c := range allWays(nameForms["as dockerd"], secretRepo, hidden) {
			for who, credential := range map[string][]string{"nobody": nil, "bob": bob} {
				if r := n.Ask(t.Context(), c.method, c.path, append(credential, c.header...)...); r.Status != http.StatusNotFound {
					t.Errorf("%s %s as %s at node %d = %d %.100s; want 404, as the upstream says", c.method, c.path, who, at, r.Status, r.Body)
				}
			}
			if r := n.Ask(t.Context(), c.method, c.path, append(alice, c.header...)...); r.Status != c.want {
				t.Errorf("%s %s as alice at node %d = %d %.100s; want %d", c.method, c.path, at, r.Status, r.Body, c.want)
			}
		}
	}
}

// TestARepositoryThatBecomesPublicIsPublicHere soon after somebody was refused.
func TestARepositoryThatBecomesPublicIsPublicHere(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, nil)
	hidden := image(t, f, 4660, secretRepo, "latest", 1<<20)
	for _, n := range f.Nodes {
		pulled(t, f, n, hidden)
		if got := status(t, n, http.MethodGet, secretRepo+"/manifests/latest", acceptAll...); got != http.StatusUnauthorized {
			t.Fatalf("GET of a private tag as nobody = %d", got)
		}
	}
	f.Hub.SetPublic(secretRepo)
	for _, n := range f.Nodes {
		f.Eventually("the repository's becoming public", func() bool {
			return status(t, n, http.MethodGet, secretRepo+"/manifests/latest", acceptAll...) == http.StatusOK
		})
		f.Eventually("its blob's becoming public", func() bool { // an answer from before may come in between
			return status(t, n, http.MethodGet, secretRepo+"/blobs/"+hidden.Layers[0].Digest.String()) == http.StatusOK
		})
	}
}

// TestWithoutTheUpstreamARightLastsForItsTime and then ends; who never had one gets none.
func TestWithoutTheUpstreamARightLastsForItsTime(t *testing.T) {
	t.Parallel()
	const stale = 4 * time.Second
	f := privateFarm(t, 2, true, func(_ int, c *node.Config) { remember(c, rememberOf, stale) })
	hidden := image(t, f, 4700, secretRepo, "latest", 1<<20)
	n := f.Nodes[0]
	pulled(t, f, n, hidden)
	alice, bob := bearer(t, f.Hub, "alice", secretRepo), bearer(t, f.Hub, "bob", secretRepo)
	blob := secretRepo + "/blobs/" + hidden.Layers[0].Digest.String()
	if got := status(t, n, http.MethodGet, blob, alice...); got != http.StatusOK {
		t.Fatalf("GET as alice = %d", got)
	}
	seen := time.Now()
	f.Hub.MustFault(hub.Fault{Do: hub.Down})
	time.Sleep(time.Until(seen.Add(2 * rememberOf))) // until what is remembered is no longer fresh
	if got := status(t, n, http.MethodGet, blob, alice...); got != http.StatusOK && time.Since(seen) < stale {
		t.Errorf("GET as alice with the upstream down = %d; want 200 for %v", got, stale)
	}
	for who, credential := range map[string][]string{"nobody": nil, "bob": bob} {
		if got := status(t, n, http.MethodGet, blob, credential...); got == http.StatusOK {
			t.Errorf("GET as %s with the upstream down = 200", who)
		}
	}
	f.Eventually("the end of a right that cannot be checked", func() bool {
		return status(t, n, http.MethodGet, blob, alice...) == http.StatusServiceUnavailable
	})
	if time.Since(seen) < stale {
		t.Errorf("a right ended after %v; want %v", time.Since(seen), stale)
	}
	if n.Metric("p2pd_node_stale_rights_total") == 0 {
		t.Error("no answer was counted as given on a remembered right")
	}
}

// TestNothingOfAnUpstreamIsMountedIntoAHostedRepository: a mount would give private content to all who read the farm's own.
func TestNothingOfAnUpstreamIsMountedIntoAHostedRepository(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, nil)
	f.SettleCatalog(f.Nodes...)
	hidden := image(t, f, 4800, secretRepo, "latest", 1<<20)
	pulled(t, f, f.Nodes[0], hidden)
	d := hidden.Layers[0].Digest
	for at, n := range f.Nodes {
		for _, query := range []string{"", "&from=" + secretRepo, "&from=docker.io/" + secretRepo, "&from=farm.internal/" + secretRepo, "&from=farm.internal/mine/app"} {
			path := "farm.internal/mine/app/blobs/uploads/?mount=" + d.String() + query
			if r := n.Ask(t.Context(), http.MethodPost, path); r.Status != http.StatusAccepted {
				t.Errorf("POST %s at node %d = %d %.200s; want 202, an upload", path, at, r.Status, r.Body)
			}
		}
		if got := status(t, n, http.MethodGet, "farm.internal/mine/app/blobs/"+d.String()); got != http.StatusNotFound {
			t.Errorf("GET of a private blob through a hosted repository at node %d = %d; want 404", at, got)
		}
	}
}

// remember sets how long rights are remembered.
func remember(c *node.Config, ttl, stale time.Duration) {
	u := c.Upstreams[oci.DockerHub]
	u.AuthTTL, u.AuthStale = ttl, stale
	c.Upstreams[oci.DockerHub] = u
}

// TestARefusalDoesNotTellWhetherTheContentIsCached compares how long refusals take: of blobs that the farm has, here and
// elsewhere, and of blobs that exist nowhere.
func TestARefusalDoesNotTellWhetherTheContentIsCached(t *testing.T) {
	f := privateFarm(t, 2, true, nil)
	hidden := image(t, f, 4900, secretRepo, "latest", 1<<20)
	image(t, f, 4901, openRepo, "latest", 3000)
	pulled(t, f, f.Nodes[0], hidden)
	n := f.Nodes[0]
	status(t, n, http.MethodGet, openRepo+"/manifests/latest", acceptAll...)
	samples := 1000
	if testing.Short() {
		samples = 100
	}
	for name, repo := range map[string]string{"through the private repository": secretRepo, "through a public one": openRepo} {
		t.Run(name, func(t *testing.T) {
			cached, absent := make([]float64, samples), make([]float64, samples)
			for first := 0; first < samples; first += askedAtOnce {
				var all []func() error
				for k := first; k < min(samples, first+askedAtOnce); k++ {
					// One after the other is asked for first, so that what else the machine does meets both.
					all = append(all, func() error {
						absentDigest := digest.FromString(name + strings.Repeat("x", k))
						absent[k] = refusalTime(t, n, repo+"/blobs/"+absentDigest.String())
						return nil
					}, func() error {
						cached[k] = refusalTime(t, n, repo+"/blobs/"+hidden.Layers[0].Digest.String())
						return nil
					})
				}
				atOnce(t, all...)
			}
			if z := rankSum(cached, absent); math.Abs(z) > 4 {
				t.Errorf("refusals of what is cached and of what is not differ: z = %.1f, medians %.4f and %.4f s", z, median(cached), median(absent))
			}
		})
	}
}

// askedAtOnce is how many pairs of refusals are timed at once: each takes a tenth of a second, most of it waiting.
const askedAtOnce = 8

func refusalTime(t *testing.T, n *testfarm.Node, path string) float64 {
	r := n.Ask(t.Context(), http.MethodGet, path)
	if r.Status != http.StatusNotFound && r.Status != http.StatusUnauthorized {
		t.Errorf("GET %s = %d; want a refusal", path, r.Status)
	}
	return r.Took.Seconds()
}

// rankSum is the z of the Wilcoxon rank-sum test of two samples (Mann and Whitney 1947): far from 0 if one is larger.
func rankSum(a, b []float64) float64 {
	type value struct {
		x     float64
		first bool
	}
	var all []value
	for _, x := range a {
		all = append(all, value{x, true})
	}
	for _, x := range b {
		all = append(all, value{x, false})
	}
	slices.SortFunc(all, func(p, q value) int {
		switch {
		case p.x < q.x:
			return -1
		case p.x > q.x:
			return 1
		}
		return 0
	})
	sum := 0.0
	for rank, v := range all {
		if v.first {
			sum += float64(rank + 1)
		}
	}
	na, nb := float64(len(a)), float64(len(b))
	mean, deviation := na*(na+nb+1)/2, math.Sqrt(na*nb*(na+nb+1)/12)
	return (sum - mean) / deviation
}

func median(a []float64) float64 {
	sorted := slices.Sorted(slices.Values(a))
	return sorted[len(sorted)/2]
}
