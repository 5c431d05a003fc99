package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/upstream"
)

func pattern(t *testing.T, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCredentialsGoWhereTheyHold(t *testing.T) {
	team, all := pattern(t, "team/*"), pattern(t, "*")
	rules := []config.Credential{
		{Match: team, Username: "robot", PasswordFile: "/secrets/robot"},
		{Match: team, DockerConfig: "/secrets/config.json"},
		{Match: team, Helper: "pass"},
		{Match: team, Username: "AWS", Exec: []string{"aws", "login"}},
	}
	cfg := config.Config{
		DataDir: t.TempDir(), DefaultUpstream: "docker.io", MirrorAuth: "bearer",
		Upstreams: map[string]config.Upstream{
			"docker.io": {
				URL: "https://registry-1.docker.io", Credentials: rules, Username: "ann", PasswordFile: "/secrets/ann", MaxConcurrent: 1,
				Shared: []access.Pattern{team}, AuthTTL: 2 * time.Minute, AuthStale: 3 * time.Minute,
				AuthRealm: "https://Auth.docker.io/token", AuthService: "registry.docker.io",
			},
			"mine": {URL: "https://registry.test:5000/x", Credentials: rules[1:3], MaxConcurrent: 1},
		},
	}
	c, err := assemble(cfg)
	if err != nil {
		t.Fatal(err)
	}
	hub, mine := c.Upstreams["docker.io"], c.Upstreams["mine"]
	const hubHost, host = "https://index.docker.io/v1/", "registry.test:5000"
	for name, row := range map[string]struct{ got, want []upstream.Rule }{
		"docker.io": {hub.Client.Credentials, []upstream.Rule{
			{Match: team, Source: upstream.PasswordFile("robot", "/secrets/robot")},
			{Match: team, Source: upstream.DockerConfig("/secrets/config.json", hubHost)},
			{Match: team, Source: upstream.Helper("pass", hubHost)},
			{Match: team, Source: upstream.Exec("AWS", "aws", "login")},
			{Match: all, Source: upstream.PasswordFile("ann", "/secrets/ann")},
		}},
		"mine": {mine.Client.Credentials, []upstream.Rule{
			{Match: team, Source: upstream.DockerConfig("/secrets/config.json", host)},
			{Match: team, Source: upstream.Helper("pass", host)},
		}},
	} {
		if !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("assemble gives %s the rules %+v; want %+v", name, row.got, row.want)
		}
	}
	if !reflect.DeepEqual(hub.Shared, []access.Pattern{team}) || hub.AuthTTL != 2*time.Minute || hub.AuthStale != 3*time.Minute {
		t.Errorf("assemble gives docker.io shared %v, %v and %v; want team/*, 2m and 3m", hub.Shared, hub.AuthTTL, hub.AuthStale)
	}
	if !c.MirrorAuthBearer || c.AuthRealm != "https://Auth.docker.io/token" || c.AuthService != "registry.docker.io" ||
		!reflect.DeepEqual(hub.Client.AuthHosts, []string{"auth.docker.io"}) || len(mine.Client.AuthHosts) != 0 {
		t.Errorf("assemble gives mirror_auth %v, realm %q, service %q, hosts %v", c.MirrorAuthBearer, c.AuthRealm, c.AuthService, hub.Client.AuthHosts)
	}
	want := []string{"/secrets/ann", "/secrets/config.json", "/secrets/robot"}
	if got := credentialFiles(cfg); !reflect.DeepEqual(got, want) {
		t.Errorf("credentialFiles = %v; want %v", got, want)
	}
}
