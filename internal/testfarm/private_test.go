package testfarm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// The repositories of these tests. alice may read secretRepo, bob may not; the farm's own user may.
const (
	secretRepo = "team/secret"
	openRepo   = "library/open"
	farmUser   = "farm"
	rememberOf = 300 * time.Millisecond // what is remembered of a client lasts that long
)

// privateFarm is a farm whose upstream has private repositories. With credentials the farm itself may read them.
func privateFarm(t *testing.T, nodes int, credentials bool, change func(i int, c *node.Config)) *testfarm.Farm {
	t.Helper()
	return privateFarmAt(t, hub.Config{}, nodes, credentials, change)
}

// privateFarmAt is privateFarm with an upstream of a certain kind.
func privateFarmAt(t *testing.T, at hub.Config, nodes int, credentials bool, change func(i int, c *node.Config)) *testfarm.Farm {
	t.Helper()
	at.Users = map[string]string{"alice": "a-pass", "bob": "b-pass", farmUser: "f-pass"}
	at.Private = map[string][]string{secretRepo: {"alice", farmUser}}
	return testfarm.Start(t, testfarm.Options{
		Nodes: nodes,
		Hub:   at,
		Change: func(i int, c *node.Config) {
			u := c.Upstreams[oci.DockerHub]
			u.TagTTL = rememberOf
			if credentials {
				u.Client.Username, u.Client.Password = farmUser, "f-pass"
			}
			c.Upstreams[oci.DockerHub] = u
			if change != nil {
				change(i, c)
			}
		},
	})
}

// bearer is the Authorization header of a user who has got a token for a repository, as pairs for Ask; none for "".
func bearer(t *testing.T, h *hub.Hub, user, repo string) []string {
	t.Helper()
	if user == "" {
		return nil
	}
	ask := h.TokenURL() + "?" + url.Values{"service": {"registry.docker.io"}, "scope": {"repository:" + repo + ":pull"}}.Encode()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.SetBasicAuth(user, user[:1]+"-pass")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var answer struct{ Token string }
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("token for %s: %v", user, err)
	}
	return []string{"Authorization", "Bearer " + answer.Token}
}

// A privateCase is one way to ask for something of a repository.
type privateCase struct {
	name, method, path string
	header             []string
	want               int // with the right
}

// allWays are all ways to ask for an image, by one form of its repository's name.
func allWays(form func(repo, rest string) string, repo string, i *images.Image) []privateCase {
	manifest, layer := i.Digest.String(), i.Layers[0].Digest.String()
	at := func(rest string) string { return form(repo, rest) }
	return []privateCase{
		{"HEAD by tag", http.MethodHead, at("manifests/latest"), acceptAll, http.StatusOK},
		{"GET by tag", http.MethodGet, at("manifests/latest"), acceptAll, http.StatusOK},
		{"HEAD by digest", http.MethodHead, at("manifests/" + manifest), acceptAll, http.StatusOK},
		{"GET by digest", http.MethodGet, at("manifests/" + manifest), acceptAll, http.StatusOK},
		{"HEAD blob", http.MethodHead, at("blobs/" + layer), nil, http.StatusOK},
		{"GET blob", http.MethodGet, at("blobs/" + layer), nil, http.StatusOK},
		{"range", http.MethodGet, at("blobs/" + layer), []string{"Range", "bytes=5-20"}, http.StatusPartialContent},
		{"GET config", http.MethodGet, at("blobs/" + i.Config.Digest.String()), nil, http.StatusOK},
		{"tags", http.MethodGet, at("tags/list"), nil, http.StatusOK},
		{"referrers", http.MethodGet, at("referrers/" + manifest), nil, http.StatusOK},
	}
}

// nameForms are the ways in which clients name a repository of Docker Hub.
var nameForms = map[string]func(repo, rest string) string{
	"as dockerd":     func(repo, rest string) string { return repo + "/" + rest },
	"as podman":      func(repo, rest string) string { return "docker.io/" + repo + "/" + rest },
	"as containerd":  func(repo, rest string) string { return repo + "/" + rest + "?ns=docker.io" },
	"as regctl does": func(repo, rest string) string { return repo + "/" + rest + "?ns=registry-1.docker.io" },
}

// checkRefusal holds a refusal to what the upstream itself would say, and to what must never be asked of a client.
func checkRefusal(t *testing.T, who string, c privateCase, r testfarm.Reply) {
	t.Helper()
	challenge := r.Header.Get("WWW-Authenticate")
	if r.Status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer realm=") || !strings.Contains(challenge, "repository:"+secretRepo+":pull") {
		t.Errorf("%s %s %s (%s) = %d %.100s, challenge %q; want 401 with the upstream's Bearer challenge", c.method, c.path, who, c.name,
			r.Status, r.Body, challenge)
	}
	if strings.Contains(strings.ToLower(challenge), "basic") {
		t.Errorf("%s %s %s: a Basic challenge, %q", c.method, c.path, who, challenge)
	}
}

// askAll asks in all ways and by all names as somebody with the right, and as all without.
func askAll(t *testing.T, f *testfarm.Farm, n *testfarm.Node, i *images.Image) {
	t.Helper()
	alice, bob := bearer(t, f.Hub, "alice", secretRepo), bearer(t, f.Hub, "bob", secretRepo)
	strangers := map[string][]string{
		"nobody": nil, "bob": bob, "bob by password": {"Authorization", "Basic Ym9iOmItcGFzcw=="},
		"a made-up token": {"Authorization", "Bearer abcdef"},
	}
	for form, path := range nameForms {
		for _, c := range allWays(path, secretRepo, i) {
			for who, credential := range strangers {
				checkRefusal(t, who+" "+form, c, n.Ask(t.Context(), c.method, c.path, append(credential, c.header...)...))
			}
			for who, credential := range map[string][]string{"alice": alice, "alice by password": {"Authorization", "Basic YWxpY2U6YS1wYXNz"}} {
				r := n.Ask(t.Context(), c.method, c.path, append(credential, c.header...)...)
				if r.Status != c.want || r.Err != nil {
					t.Errorf("%s %s as %s (%s) = %d %.200s %v; want %d", c.method, c.path, who, c.name, r.Status, r.Body, r.Err, c.want)
				}
			}
		}
	}
}

func TestPrivateContentIsForThoseWhomTheUpstreamGivesIt(t *testing.T) {
	t.Parallel()
	for name, credentials := range map[string]bool{"the farm has credentials": true, "only clients have": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := privateFarm(t, 3, credentials, nil)
			i := image(t, f, 4000, secretRepo, "latest", 3<<20, 3000)
			for at, n := range f.Nodes {
				t.Run(fmt.Sprintf("node %d of a farm where %d have it", at, at), func(t *testing.T) { askAll(t, f, n, i) })
			}
			for _, b := range i.Blobs() {
				if got := crossed(f, b.Digest); got > b.Size+2<<20 {
					t.Errorf("%d bytes of a blob of %d crossed; want it once", got, b.Size)
				}
			}
		})
	}
}

func TestWhatEverybodyMayReadIsReadByEverybody(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, nil)
	i := image(t, f, 4100, openRepo, "latest", 1<<20)
	for _, n := range f.Nodes {
		for who, credential := range map[string][]string{
			"nobody": nil, "bob": bearer(t, f.Hub, "bob", openRepo), "a made-up token": {"Authorization", "Bearer abcdef"},
		} {
			for form, path := range nameForms {
				for _, c := range allWays(path, openRepo, i) {
					if r := n.Ask(t.Context(), c.method, c.path, append(credential, c.header...)...); r.Status != c.want {
						t.Errorf("%s %s as %s, %s = %d %.200s; want %d", c.method, c.path, who, form, r.Status, r.Body, c.want)
					}
				}
			}
		}
	}
}

func TestAnOperatorMayShareWhatTheFarmItselfMayRead(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, true, func(_ int, c *node.Config) { share(t, c, "team/*") })
	i := image(t, f, 4200, secretRepo, "latest", 1<<20)
	for _, n := range f.Nodes {
		for _, c := range allWays(nameForms["as dockerd"], secretRepo, i) {
			if r := n.Ask(t.Context(), c.method, c.path, c.header...); r.Status != c.want {
				t.Errorf("%s %s of a shared repository as nobody = %d %.200s; want %d", c.method, c.path, r.Status, r.Body, c.want)
			}
		}
	}
}

// share has the farm share the repositories of a pattern.
func share(t *testing.T, c *node.Config, pattern string) {
	t.Helper()
	p, err := access.ParsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	u := c.Upstreams[oci.DockerHub]
	u.Shared = append(u.Shared, p)
	c.Upstreams[oci.DockerHub] = u
}

// TestWhatTheFarmMayShareAndCannotReadIsReadByThoseWhoMay: the operator's word makes nothing out of reach.
func TestWhatTheFarmMayShareAndCannotReadIsReadByThoseWhoMay(t *testing.T) {
	t.Parallel()
	f := privateFarm(t, 2, false, func(_ int, c *node.Config) { share(t, c, "*") })
	i := image(t, f, 4250, secretRepo, "latest", 1<<20)
	alice := bearer(t, f.Hub, "alice", secretRepo)
	for _, n := range f.Nodes {
		for _, c := range allWays(nameForms["as dockerd"], secretRepo, i) {
			if r := n.Ask(t.Context(), c.method, c.path, append(alice, c.header...)...); r.Status != c.want {
				t.Errorf("%s %s as alice = %d %.200s; want %d", c.method, c.path, r.Status, r.Body, c.want)
			}
		}
	}
	for _, n := range f.Nodes { // now that it is cached
		for _, c := range allWays(nameForms["as dockerd"], secretRepo, i) {
			checkRefusal(t, "nobody", c, n.Ask(t.Context(), c.method, c.path, c.header...))
		}
	}
}
