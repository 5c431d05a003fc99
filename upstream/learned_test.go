package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestAChallengeIsWhatTheUpstreamHasSaid(t *testing.T) {
	h, private, _ := people(t, nil)
	c := client(t, h.URL(), nil)
	if got := c.Challenge(secretRepo); got != "" {
		t.Errorf("Challenge before anything is known = %q; want none", got)
	}
	_ = read(t.Context(), c, secretRepo, private)
	want := fmt.Sprintf(`Bearer realm=%q,service="registry.docker.io",scope="repository:other/app:pull"`, h.TokenURL())
	if got := c.Challenge("other/app"); got != want {
		t.Errorf("Challenge = %s; want %s", got, want)
	}
	set := client(t, h.URL(), func(cfg *upstream.Config) { cfg.AuthRealm, cfg.AuthService = "https://auth.example/token", "s" })
	if got, want := set.Challenge(repo), `Bearer realm="https://auth.example/token",service="s",scope="repository:library/app:pull"`; got != want {
		t.Errorf("Challenge with a realm configured = %s; want %s", got, want)
	}
	basic, private, _ := people(t, func(cfg *hub.Config) { cfg.Basic = true })
	c = client(t, basic.URL(), nil)
	_ = read(t.Context(), c, secretRepo, private)
	if got := c.Challenge(secretRepo); got != "" {
		t.Errorf("Challenge of a registry that wants Basic = %q; want none", got)
	}
}

func TestWhatIsHiddenFromStrangersIsFoundWithCredentials(t *testing.T) {
	h, private, _ := people(t, func(cfg *hub.Config) { cfg.Basic, cfg.Hide = true, true })
	c := client(t, h.URL(), func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "*")} })
	if err := read(t.Context(), c, secretRepo, private); err != nil {
		t.Errorf("the farm reads: %v", err)
	}
	for who, as := range map[string]upstream.Identity{"nobody": upstream.Anonymous(), "bob": upstream.ClientIdentity(basicOf("bob", "b"))} {
		if err := read(t.Context(), c.As(as), secretRepo, private); !errors.Is(err, oci.ErrNameUnknown) {
			t.Errorf("%s reads: %v; want ErrNameUnknown", who, err)
		}
	}
	plain := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	c = client(t, plain.URL, func(cfg *upstream.Config) { cfg.Credentials = []upstream.Rule{rule(t, "*")} })
	for range 5 {
		if err := read(t.Context(), c, repo, private); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("read of what is not there = %v; want ErrNotFound", err)
		}
	}
	if n := len(plain.requests()); n != 6 {
		t.Errorf("%d requests for five blobs that are not there; want 6: one to find out that nobody is asked for credentials", n)
	}
}

func TestForgettingHasAllAskedForAnew(t *testing.T) {
	h, private, _ := people(t, nil)
	source := &changing{}
	source.set(password)
	c := client(t, h.URL(), func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*"), Source: source}}
	})
	if err := read(t.Context(), c, secretRepo, private); err != nil {
		t.Fatal(err)
	}
	h.SetPassword("ann", "new")
	source.set("new")
	h.Reset()
	if err := read(t.Context(), c, secretRepo, private); err != nil || h.Stats().TokenRequests != 0 {
		t.Errorf("read before Forget = %v with %d token requests; want it read with what is remembered", err, h.Stats().TokenRequests)
	}
	c.Forget()
	if err := read(t.Context(), c, secretRepo, private); err != nil {
		t.Errorf("read after Forget = %v", err)
	}
	if s := h.Stats(); s.ByUser["ann"].Tokens != 1 || s.Redirects != 1 || s.Challenges != 0 {
		t.Errorf("after Forget: %+v; want a token and a redirect asked for anew, and no challenge", s)
	}
}

// changing is a source whose password changes.
type changing struct {
	mu       sync.Mutex
	password string
	asked    int
}

func (c *changing) set(password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.password = password
}

func (c *changing) Credentials(context.Context) (upstream.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return upstream.Credentials{Username: "ann", Password: upstream.Secret(c.password)}, nil
}

func (c *changing) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}
