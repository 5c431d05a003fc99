package upstream_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

// script writes a program into a folder.
func script(t *testing.T, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ann has the tests' password.
var ann = upstream.Credentials{Username: "ann", Password: password}

func TestSourcesSayWhatTheyKnow(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	script(t, bin, "docker-credential-good", `read -r host; [ "$1" = get ] && [ "$host" = registry.test ] || exit 1
		echo '{"ServerURL":"registry.test","Username":"ann","Secret":"`+password+`"}'`)
	script(t, bin, "docker-credential-identity", `echo '{"Username":"<token>","Secret":"refresh"}'`)
	script(t, bin, "docker-credential-empty", `echo 'credentials not found in native keychain'; exit 1`)
	config := func(text string) upstream.Source {
		return upstream.DockerConfig(write(t, "config.json", text), "registry.test")
	}
	hubConfig := func(key string) upstream.Source {
		return upstream.DockerConfig(write(t, "config.json", `{"auths":{"`+key+`":{"auth":"`+auth+`"}}}`), "https://index.docker.io/v1/")
	}
	for name, row := range map[string]struct {
		source upstream.Source
		want   upstream.Credentials
	}{
		"password file":        {upstream.PasswordFile("ann", write(t, "p", password+"\n")), ann},
		"auths":                {config(`{"auths":{"registry.test":{"auth":"` + auth + `"}}}`), ann},
		"auths with a URL":     {config(`{"auths":{"https://registry.test/v2/":{"auth":"` + auth + `"}}}`), ann},
		"auths in plain":       {config(`{"auths":{"registry.test":{"username":"ann","password":"` + password + `"}}}`), ann},
		"auths beside others":  {config(`{"auths":{"registry.test/team":{"auth":"eDp5"},"a.test":{"auth":"eDp5"},"registry.test":{"auth":"` + auth + `"}},"HttpHeaders":{}}`), ann},
		"identity token":       {config(`{"auths":{"registry.test":{"auth":"YW5uOg==","identitytoken":"refresh"}}}`), upstream.Credentials{Username: "ann", IdentityToken: "refresh"}},
		"registry token":       {config(`{"auths":{"registry.test":{"registrytoken":"abc"}}}`), upstream.Credentials{Token: "abc"}},
		"helper of the host":   {config(`{"credHelpers":{"registry.test":"good"},"credsStore":"empty"}`), ann},
		"helper of all":        {config(`{"auths":{"registry.test":{}},"credsStore":"good"}`), ann},
		"helper without it":    {config(`{"auths":{"registry.test":{"auth":"` + auth + `"}},"credsStore":"empty"}`), ann},
		"docker's Hub":         {hubConfig("https://index.docker.io/v1/"), ann},
		"podman's Hub":         {hubConfig("docker.io"), ann},
		"helper":               {upstream.Helper("good", "registry.test"), ann},
		"helper with identity": {upstream.Helper("identity", "registry.test"), upstream.Credentials{IdentityToken: "refresh"}},
		"program":              {upstream.Exec("", "echo", `{"username":"ann","password":"`+password+`"}`), ann},
		"program with an end":  {upstream.Exec("", "echo", `{"token":"abc","expiry":"2033-01-02T03:04:05Z"}`), upstream.Credentials{Token: "abc", Expires: time.Date(2033, 1, 2, 3, 4, 5, 0, time.UTC)}},
		"program with a token": {upstream.Exec("", "echo", "abc"), upstream.Credentials{Token: "abc"}},
		"program for a user":   {upstream.Exec("ann", "echo", password), ann},
	} {
		if got, err := row.source.Credentials(t.Context()); err != nil || got != row.want {
			t.Errorf("%s: %#v, %v; want %#v", name, got, err, row.want)
		}
	}
}

func TestErrorsOfSourcesNameTheSourceAndNoSecret(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	script(t, bin, "docker-credential-loud", `echo "error: `+password+`"; echo "`+password+`" >&2; exit 3`)
	script(t, bin, "docker-credential-odd", `echo '{"Username": "`+password+`'`)
	script(t, bin, "docker-credential-empty", `echo '{}'`)
	script(t, bin, "docker-credential-endless", `while :; do echo `+password+password+password+password+`; done`)
	for name, row := range map[string]struct {
		source upstream.Source
		want   string
	}{
		"no file":              {upstream.PasswordFile("ann", "/nowhere/secret"), "/nowhere/secret"},
		"empty file":           {upstream.PasswordFile("ann", write(t, "p", " \n")), "is empty"},
		"no docker config":     {upstream.DockerConfig("/nowhere/config.json", "h"), "/nowhere/config.json"},
		"broken docker config": {upstream.DockerConfig(write(t, "c.json", `{"auths":{"h":`+password), "h"), "c.json"},
		"docker config without the host": {
			upstream.DockerConfig(write(t, "c.json", `{"auths":{"h.test":{"auth":"eDp5"}}}`), "h"), "no credentials for h",
		},
		"docker config with an odd entry": {upstream.DockerConfig(write(t, "c.json", `{"auths":{"h":{"auth":"`+password+`"}}}`), "h"), "entry of h"},
		"no helper":                       {upstream.Helper("missing", "h"), "credential helper missing"},
		"helper elsewhere":                {upstream.Helper("../../evil", "h"), "no name"},
		"helper that fails":               {upstream.Helper("loud", "h"), "credential helper loud: of h: exit status 3"},
		"helper with odd JSON":            {upstream.Helper("odd", "h"), "credential helper odd"},
		"helper without any":              {upstream.Helper("empty", "h"), "no credentials"},
		"helper without end":              {upstream.Helper("endless", "h"), "prints more than"},
		"no program":                      {upstream.Exec("", "/nowhere/program", password), "/nowhere/program"},
		"program that says nothing":       {upstream.Exec("", "true", password), "neither"},
		"program with odd JSON":           {upstream.Exec("", "echo", `{"username":"`+password), "not JSON"},
		"program with several words":      {upstream.Exec("", "echo", "it is "+password), "neither"},
	} {
		got, err := row.source.Credentials(t.Context())
		if err == nil || !strings.Contains(err.Error(), row.want) || got != (upstream.Credentials{}) {
			t.Errorf("%s: %v, %v; want an error with %q", name, got, err, row.want)
			continue
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

func TestAnIdentityTokenIsGivenToTheTokenServiceAlone(t *testing.T) {
	h, private, _ := people(t, nil)
	c := client(t, h.URL(), func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{
			Match: pattern(t, "*"), Source: upstream.Credentials{IdentityToken: upstream.Secret(h.IdentityToken("ann"))},
		}}
	})
	for range 2 {
		if err := read(t.Context(), c, secretRepo, private); err != nil {
			t.Fatal(err)
		}
	}
	if by := h.Stats().ByUser["ann"]; by.Tokens != 1 {
		t.Errorf("%d tokens for two reads; want 1", by.Tokens)
	}
	basic, private, _ := people(t, func(cfg *hub.Config) { cfg.Basic = true })
	c = client(t, basic.URL(), func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*"), Source: upstream.Credentials{Username: "ann", IdentityToken: password}}}
	})
	if err := read(t.Context(), c, secretRepo, private); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("read at a registry that wants Basic = %v; want ErrUnauthorized", err)
	}
}

func TestATokenForTheRegistryIsSentAsItIs(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "Bearer abc" {
			challengeTo(w, "http://"+q.Host+"/token")
			return
		}
		_, _ = w.Write([]byte("data"))
	})
	c := client(t, r.URL, func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*"), Source: upstream.Exec("", "echo", "abc")}}
	})
	for range 2 {
		if err := read(t.Context(), c, repo, digestOf(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.requests()); n != 3 {
		t.Errorf("requests = %v; want 3, none of them for a token", r.requests())
	}
}

func TestABrokenSourceIsNoRefusal(t *testing.T) {
	h, private, public := people(t, nil)
	c := client(t, h.URL(), func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{Match: pattern(t, "team/*"), Source: upstream.PasswordFile("ann", "/nowhere/secret")}}
	})
	if err := read(t.Context(), c, secretRepo, private); !errors.Is(err, oci.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read with a broken source = %v; want ErrUnavailable and its own error", err)
	}
	if err := read(t.Context(), c, repo, public); err != nil {
		t.Errorf("read of what needs no credentials = %v", err)
	}
}

// guarded is a registry in a bubble that wants Basic credentials, whose password changes.
func guarded(t *testing.T, source upstream.Source, now *string) (c *upstream.Client, refusals *atomic.Int64) {
	t.Helper()
	refusals = new(atomic.Int64)
	p := &pipes{serve: func(q *http.Request, conn net.Conn) bool {
		if _, pass, _ := q.BasicAuth(); pass != *now {
			refusals.Add(1)
			return reply(conn, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "")
		}
		return reply(conn, 200, "", "data")
	}}
	c = p.in(t, func(cfg *upstream.Config) {
		cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*"), Source: source}}
	})
	return c, refusals
}

func TestASourceIsAskedAgainAfterMinutesOrWhenItsWordIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &changing{}
		source.set("first")
		now := "first"
		c, refusals := guarded(t, source, &now)
		get := func(what string, wantAsked int) {
			t.Helper()
			if err := read(t.Context(), c, repo, digestOf(nil)); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if source.times() != wantAsked {
				t.Fatalf("%s: the source was asked %d times; want %d", what, source.times(), wantAsked)
			}
		}
		get("the first time", 1)
		time.Sleep(4 * time.Minute)
		get("after 4 minutes", 1)
		time.Sleep(2 * time.Minute)
		get("after 6 minutes", 2)
		time.Sleep(2 * time.Second)
		source.set("second")
		now = "second"
		refusals.Store(0)
		get("after a change at both ends", 3)
		if refusals.Load() != 1 {
			t.Errorf("the registry refused %d requests; want 1, with the old password", refusals.Load())
		}
		now = "third" // which the source does not know
		time.Sleep(2 * time.Second)
		for range 3 {
			if err := read(t.Context(), c, repo, digestOf(nil)); !errors.Is(err, oci.ErrUnauthorized) {
				t.Fatalf("read with a wrong password = %v; want ErrUnauthorized", err)
			}
		}
		if source.times() != 4 {
			t.Errorf("the source was asked %d times; want 4: once a second at most for what is refused", source.times())
		}
	})
}

func TestCredentialsThatEndAreAskedForInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source := sourceFunc(func(context.Context) (upstream.Credentials, error) {
			asked++
			return upstream.Credentials{Username: "ann", Password: "x", Expires: time.Now().Add(time.Minute)}, nil
		})
		now := "x"
		c, _ := guarded(t, source, &now)
		for range 7 {
			if err := read(t.Context(), c, repo, digestOf(nil)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
		}
		if asked != 3 {
			t.Errorf("credentials of a minute were asked for %d times in two; want 3", asked)
		}
	})
}

func TestABrokenSourceIsLeftAloneForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		broken := errors.New("helper is not installed")
		source := sourceFunc(func(context.Context) (upstream.Credentials, error) {
			asked++
			return upstream.Credentials{}, broken
		})
		now := "x"
		c, _ := guarded(t, source, &now)
		for range 10 {
			if err := read(t.Context(), c, repo, digestOf(nil)); !errors.Is(err, broken) || !errors.Is(err, oci.ErrUnavailable) {
				t.Fatalf("read = %v; want the source's error, as unavailable", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if asked != 1 {
			t.Errorf("a broken source was asked %d times in a second; want once", asked)
		}
	})
}

func TestASourceThatHangsHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		source := sourceFunc(func(ctx context.Context) (upstream.Credentials, error) {
			asked.Add(1)
			<-ctx.Done()
			return upstream.Credentials{}, ctx.Err()
		})
		now := "x"
		c, _ := guarded(t, source, &now)
		began := time.Now()
		done := make(chan error, 5)
		for range 5 {
			go func() { done <- read(t.Context(), c, repo, digestOf(nil)) }()
		}
		for range 5 {
			if err := <-done; !errors.Is(err, oci.ErrUnavailable) {
				t.Errorf("read = %v; want ErrUnavailable", err)
			}
		}
		if took := time.Since(began); took > 9*time.Second || asked.Load() != 1 {
			t.Errorf("five callers waited %v and asked %d times; want at most the first-byte timeout, and once", took, asked.Load())
		}
		time.Sleep(15 * time.Second) // the question itself ends
	})
}

type sourceFunc func(ctx context.Context) (upstream.Credentials, error)

func (f sourceFunc) Credentials(ctx context.Context) (upstream.Credentials, error) { return f(ctx) }

func TestRulesWithoutASourceOrAPatternAreReported(t *testing.T) {
	cfg := upstream.Default()
	cfg.Credentials = []upstream.Rule{{Match: pattern(t, "*")}, {Source: ann}}
	err := cfg.Validate()
	for i := range 2 {
		if want := fmt.Sprintf("rule %d lacks", i+1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v; want %q", err, want)
		}
	}
}
