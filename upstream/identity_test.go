package upstream_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

const secretRepo = "team/app"

func pattern(t *testing.T, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rule is one for ann, whose password is the tests'.
func rule(t *testing.T, match string) upstream.Rule {
	t.Helper()
	return upstream.Rule{Match: pattern(t, match), Source: upstream.Credentials{Username: "ann", Password: password}}
}

func basicOf(user, pass string) upstream.Secret {
	return upstream.Secret("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass)))
}

// people is a stand-in with a repository for ann alone and one for all.
func people(t *testing.T, change func(*hub.Config)) (h *hub.Hub, private, public oci.Digest) {
	t.Helper()
	cfg := hub.Config{Users: map[string]string{"ann": password, "bob": "b"}, Private: map[string][]string{secretRepo: {"ann"}}}
	if change != nil {
		change(&cfg)
	}
	h = startHub(t, cfg)
	private, _ = put(t, h, secretRepo, 1000)
	public, _ = put(t, h, repo, 1000)
	return h, private, public
}

func read(ctx context.Context, c *upstream.Client, path string, d oci.Digest) error {
	body, err := c.Blob(ctx, path, d, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}

func refused(err error) bool {
	return errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied)
}

func TestEachIdentityGetsWhatTheUpstreamGivesIt(t *testing.T) {
	for _, basic := range []bool{false, true} {
		h, private, public := people(t, func(cfg *hub.Config) { cfg.Basic = basic })
		farm := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "team/*")} })
		for _, row := range []struct {
			who  string
			as   upstream.Identity
			path string
			blob oci.Digest
			want bool
		}{
			{"nobody", upstream.Anonymous(), repo, public, true}, // before anything is learned
			{"nobody", upstream.Anonymous(), secretRepo, private, false},
			{"nobody", upstream.Anonymous(), repo, public, true},
			{"the farm", upstream.Farm(), secretRepo, private, true},
			{"the farm", upstream.Farm(), repo, public, true},
			{"bob", upstream.ClientIdentity(basicOf("bob", "b")), secretRepo, private, false},
			{"bob", upstream.ClientIdentity(basicOf("bob", "b")), repo, public, true},
			{"ann", upstream.ClientIdentity(basicOf("ann", password)), secretRepo, private, true},
			{"ann with a wrong password", upstream.ClientIdentity(basicOf("ann", "x")), secretRepo, private, false},
			{"a client of no kind", upstream.ClientIdentity("Digest username=ann"), repo, public, false},
			{"a client with rubbish", upstream.ClientIdentity("Basic !"), repo, public, false},
			{"a client with a forged token", upstream.ClientIdentity("Bearer abc"), secretRepo, private, false},
			{"a client without anything", upstream.ClientIdentity(""), repo, public, true},
			{"the farm after all of them", upstream.Farm(), secretRepo, private, true},
		} {
			err := read(t.Context(), farm.As(row.as), row.path, row.blob)
			if row.want && err != nil || !row.want && !refused(err) {
				t.Errorf("Basic %v: %s reads %s: %v; want it read: %v", basic, row.who, row.path, err, row.want)
			}
		}
		if err := read(t.Context(), farm, secretRepo, private); err != nil {
			t.Errorf("a Client of New is not the farm: %v", err)
		}
	}
}

func TestWhoIsAnonymousSendsNoCredentials(t *testing.T) {
	var mu sync.Mutex
	seen := ""
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		seen += q.Header.Get("Authorization") + q.URL.RawQuery + "\n"
		mu.Unlock()
		switch {
		case q.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"token":"t"}`))
		case q.Header.Get("Authorization") == "":
			challengeTo(w, r.URL+"/token")
		default:
			_, _ = w.Write([]byte("data"))
		}
	})
	c := client(t, r.URL, func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{rule(t, "*")}
		cfg.Username, cfg.Password = "ann", password
	})
	for range 2 { // before and after the way is learned
		if err := read(t.Context(), c.As(upstream.Anonymous()), repo, digestOf(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(seen, "Basic") || strings.Contains(seen, "account") {
		t.Errorf("an anonymous request carried credentials:\n%s", seen)
	}
	if c.As(upstream.Anonymous()).HasCredentials(repo) || !c.HasCredentials(repo) {
		t.Error("HasCredentials = want true for the farm and false for who is anonymous")
	}
}

func TestRulesHoldForTheirRepositoriesInOrder(t *testing.T) {
	h, private, public := people(t, nil)
	bob := upstream.Rule{Match: pattern(t, "*"), Source: upstream.Credentials{Username: "bob", Password: "b"}}
	c := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "team/*"), bob} })
	for path, d := range map[string]oci.Digest{secretRepo: private, repo: public} {
		if err := read(t.Context(), c, path, d); err != nil {
			t.Errorf("read of %s = %v", path, err)
		}
	}
	if by := h.Stats().ByUser; by["ann"].Tokens != 1 || by["bob"].Tokens != 1 || by[""].Tokens != 0 {
		t.Errorf("tokens by user = %+v; want one of ann and one of bob", by)
	}
	for path, want := range map[string]bool{secretRepo: true, repo: false} {
		c := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "team/*")} })
		if got := c.HasCredentials(path); got != want {
			t.Errorf("HasCredentials(%s) = %v; want %v", path, got, want)
		}
	}
}

func TestAClientsTokenIsSentAsItIsAndToTheRegistryAlone(t *testing.T) {
	var mu sync.Mutex
	foreignSaw := ""
	foreign := serve(t, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		foreignSaw += q.Header.Get("Authorization")
		mu.Unlock()
		_, _ = w.Write([]byte("data"))
	})
	elsewhere := strings.Replace(foreign.URL, "127.0.0.1", "localhost", 1)
	var r *registry
	r = serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "Bearer of-the-client" {
			challengeTo(w, r.URL+"/token")
			return
		}
		http.Redirect(w, q, elsewhere, http.StatusTemporaryRedirect)
	})
	c := client(t, r.URL, nil)
	if err := read(t.Context(), c.As(upstream.ClientIdentity("bearer  of-the-client")), repo, digestOf(nil)); err != nil {
		t.Error(err)
	}
	if err := read(t.Context(), c.As(upstream.ClientIdentity("Bearer another")), repo, digestOf(nil)); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("read with a token that is refused = %v; want ErrUnauthorized", err)
	}
	for _, q := range r.requests() {
		if strings.Contains(q, "/token") {
			t.Errorf("a client's token was exchanged: %v", r.requests())
		}
	}
	if len(r.requests()) != 2 || foreignSaw != "" {
		t.Errorf("%d requests, and the redirect's target saw %q; want 2 and nothing", len(r.requests()), foreignSaw)
	}
}

func TestAClientsPasswordGoesToNoForeignTokenService(t *testing.T) {
	foreign := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"t"}`)) })
	realm := strings.Replace(foreign.URL, "127.0.0.1", "localhost", 1)
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) { challengeTo(w, realm) })
	c := client(t, r.URL, nil)
	for range 2 {
		err := read(t.Context(), c.As(upstream.ClientIdentity(basicOf("ann", password))), repo, digestOf(nil))
		if !errors.Is(err, oci.ErrUnauthorized) || strings.Contains(err.Error(), password) {
			t.Errorf("read = %v; want ErrUnauthorized", err)
		}
	}
	if len(foreign.requests()) != 0 {
		t.Errorf("the foreign token service was asked %v", foreign.requests())
	}
	if got := c.Challenge(repo); got != "" {
		t.Errorf("Challenge = %q; want none with a realm that is not trusted", got)
	}
}

func TestARefusedClientCostsTheOthersNothing(t *testing.T) {
	h, private, _ := people(t, nil)
	farm := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "*")} })
	if err := read(t.Context(), farm, secretRepo, private); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		_ = read(t.Context(), farm.As(upstream.ClientIdentity(basicOf("ann", fmt.Sprint("wrong", i)))), secretRepo, private)
		_ = read(t.Context(), farm.As(upstream.ClientIdentity("Bearer wrong")), secretRepo, private)
	}
	h.Reset()
	another, _ := put(t, h, secretRepo, 500)
	if err := read(t.Context(), farm, secretRepo, another); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); s.Challenges != 0 || s.TokenRequests != 0 {
		t.Errorf("the farm met %d challenges and asked for %d tokens; want none: it had a token", s.Challenges, s.TokenRequests)
	}
}

func TestTokensOfManyAtOnceNeverMix(t *testing.T) {
	users := map[string]string{}
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("user%02d", i))
		users[names[i]] = fmt.Sprintf("pass%02d", i)
	}
	h := startHub(t, hub.Config{Users: users})
	blobs := map[string]oci.Digest{}
	for _, name := range names {
		blobs[name], _ = put(t, h, "of/"+name, 100)
		h.SetReaders("of/"+name, name)
	}
	c := client(t, h.URL(), nil)
	var wg sync.WaitGroup
	for i, name := range names {
		for _, owner := range []string{name, names[(i+1)%len(names)]} {
			wg.Go(func() {
				err := read(t.Context(), c.As(upstream.ClientIdentity(basicOf(name, users[name]))), "of/"+owner, blobs[owner])
				if owner == name && err != nil || owner != name && !refused(err) {
					t.Errorf("%s reads what is %s's: %v", name, owner, err)
				}
			})
		}
	}
	wg.Wait()
	for _, name := range names {
		if by := h.Stats().ByUser[name]; by.Requests != 1 {
			t.Errorf("%d requests were let in in the name of %s; want 1", by.Requests, name)
		}
	}
}

func TestARedirectBelongsToWhoGotIt(t *testing.T) {
	h, private, _ := people(t, nil)
	farm := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "*")} })
	if err := read(t.Context(), farm, secretRepo, private); err != nil {
		t.Fatal(err)
	}
	for who, as := range map[string]upstream.Identity{
		"nobody": upstream.Anonymous(), "bob": upstream.ClientIdentity(basicOf("bob", "b")), "a forger": upstream.ClientIdentity("Bearer x"),
	} {
		if err := read(t.Context(), farm.As(as), secretRepo, private); !refused(err) {
			t.Errorf("%s reads by a redirect of the farm: %v; want it refused", who, err)
		}
	}
	before := h.Stats().Redirects
	if err := read(t.Context(), farm, secretRepo, private); err != nil || h.Stats().Redirects != before {
		t.Errorf("the farm reads again with %v and %d new redirects; want none of both", err, h.Stats().Redirects-before)
	}
}

func TestAStreamGoesOnInTheSameName(t *testing.T) {
	h := startHub(t, hub.Config{Users: map[string]string{"ann": password}, NoRedirect: true})
	d, data := put(t, h, secretRepo, 300_000)
	h.SetReaders(secretRepo, "ann")
	if _, err := h.AddFault(hub.Fault{Kind: hub.Blob, Do: hub.CutAt, At: 100_000, Count: 1}); err != nil {
		t.Fatal(err)
	}
	c := client(t, h.URL(), nil)
	s, err := c.As(upstream.ClientIdentity(basicOf("ann", password))).Stream(t.Context(), secretRepo, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "blob", got, data)
	if by := h.Stats().ByUser; by["ann"].Requests != 2 || by[""].Requests != 0 || c.Stats().Resumes != 1 {
		t.Errorf("requests by user = %+v, %d resumptions; want two of ann's and one", by, c.Stats().Resumes)
	}
}

func TestIdentitiesAndCredentialsDoNotShowThemselves(t *testing.T) {
	as := upstream.ClientIdentity(basicOf("ann", password))
	creds := upstream.Credentials{Username: "ann", Password: password, IdentityToken: password, Token: password}
	cfg := upstream.Default()
	cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*"), Source: creds}}
	text := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %+v %#v", as, as, as, as, creds, creds, creds, cfg, cfg)
	if strings.Contains(text, password) || strings.Contains(text, string(basicOf("ann", password))[6:]) {
		t.Errorf("a secret shows in %s", text)
	}
}
