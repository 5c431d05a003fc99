package config_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
)

func patterns(t *testing.T, texts ...string) []access.Pattern {
	t.Helper()
	var all []access.Pattern
	for _, text := range texts {
		p, err := access.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestRulesOfCredentialsAreReadFromTheFileAndTheEnvironment(t *testing.T) {
	secret := file(t, "secret")
	p := patterns(t, "team/*", "tools/app", "*")
	want := []config.Credential{
		{Match: p[0], Username: "robot", PasswordFile: secret},
		{Match: p[1], DockerConfig: secret},
		{Match: p[2], Helper: "ecr-login"},
		{Match: p[2], Username: "AWS", Exec: []string{"aws", "ecr", "get-login-password"}},
	}
	inFile := load(t, config.Sources{File: file(t, `
upstreams:
  ghcr.io:
    credentials:
      - {match: team/*, username: robot, password_file: `+secret+`}
      - match: tools/app
        docker_config: `+secret+`
      - helper: ecr-login
      - {match: "*", username: AWS, exec: [aws, ecr, get-login-password]}
`)})
	if got := inFile.Upstreams["ghcr.io"].Credentials; !reflect.DeepEqual(got, want) {
		t.Errorf("Credentials of the file = %+v; want %+v", got, want)
	}
	s := empty(t)
	s.Environ = []string{`P2PD_UPSTREAMS_GHCR_IO_CREDENTIALS=[
		{"match":"team/*","username":"robot","password_file":"` + secret + `"},{"match":"tools/app","docker_config":"` + secret + `"},
		{"helper":"ecr-login"},{"match":"*","username":"AWS","exec":["aws","ecr","get-login-password"]}]`}
	if got := load(t, s).Upstreams["ghcr.io"].Credentials; !reflect.DeepEqual(got, want) {
		t.Errorf("Credentials of the environment = %+v; want %+v", got, want)
	}
}

func TestWhatIsWrongWithARuleIsSaidWithItsPlace(t *testing.T) {
	secret := file(t, "x")
	path := file(t, `upstreams:
  ghcr.io:
    credentials:
      - {match: "team*", username: robot, password_file: `+secret+`}
      - {match: team/*, user: robot, password_file: `+secret+`}
      - {username: robot}
      - {helper: pass, docker_config: `+secret+`}
      - {password_file: `+secret+`}
      - {username: robot, password_file: /nowhere/hunter2}
      - {username: robot, helper: pass}
      - {helper: ../pass}
      - {helper: pass, helper: pass}
      - {exec: {a: b}}
      - {exec: []}
      - {helper: [pass]}
      - pass
      - {username: "a:b", password_file: `+secret+`}
  quay.io: {credentials: pass}
  a.test: {credentials: }
`)
	_, err := config.Load(config.Sources{File: path, Environ: []string{
		`P2PD_UPSTREAMS_B_TEST_CREDENTIALS=[{"helper":"pass","colour":"hunter2"}]`,
		`P2PD_UPSTREAMS_C_TEST_CREDENTIALS={"helper": hunter2`,
	}})
	bad, ok := errors.AsType[*config.Error](err)
	if !ok {
		t.Fatalf("Load = %v; want an *Error", err)
	}
	got := strings.ReplaceAll(strings.ReplaceAll(bad.Error(), path, "p2pd.yaml"), filepath.Dir(secret), "DIR") + "\n"
	compare(t, "testdata/credentials.golden", got)
	if strings.Contains(strings.ReplaceAll(got, "/nowhere/hunter2", ""), "hunter2") {
		t.Errorf("an error shows a value:\n%s", got)
	}
}

func TestSharedIsAllOrNothingOrPatterns(t *testing.T) {
	for text, want := range map[string][]access.Pattern{
		"true": patterns(t, "*"), "false": {}, "[team/*, library/app]": patterns(t, "team/*", "library/app"), "team/*": patterns(t, "team/*"),
		"off": {}, "on": patterns(t, "*"),
	} {
		c := load(t, config.Sources{File: file(t, "upstreams: {ghcr.io: {shared: "+text+"}}")})
		if got := c.Upstreams["ghcr.io"].Shared; !reflect.DeepEqual(got, want) {
			t.Errorf("shared: %s is %v; want %v", text, got, want)
		}
	}
	if _, err := config.Load(config.Sources{File: file(t, "upstreams: {ghcr.io: {shared: [team*]}}")}); err == nil {
		t.Error("shared: [team*] is taken; want it refused")
	}
	s := empty(t)
	s.Environ = []string{"P2PD_UPSTREAMS_GHCR_IO_SHARED=team/*, library/app", "P2PD_UPSTREAMS_GHCR_IO_AUTH_TTL=1m", "P2PD_UPSTREAMS_GHCR_IO_AUTH_STALE=0s"}
	u := load(t, s).Upstreams["ghcr.io"]
	if !reflect.DeepEqual(u.Shared, patterns(t, "team/*", "library/app")) || u.AuthTTL != time.Minute || u.AuthStale != 0 {
		t.Errorf("from the environment: %+v", u)
	}
}

func TestMirrorAuthIsAWordAndNeedsATokenService(t *testing.T) {
	for text, want := range map[string]string{"off": "off", "bearer": "bearer", "false": "off"} {
		if got := load(t, config.Sources{File: file(t, "mirror_auth: "+text)}).MirrorAuth; got != want {
			t.Errorf("mirror_auth: %s is %q; want %q", text, got, want)
		}
	}
	mine := "default_upstream: registry.test\nmirror_auth: bearer\nupstreams: {registry.test: {url: 'https://registry.test'"
	_, err := config.Load(config.Sources{File: file(t, mine+"}}")})
	if err == nil || !strings.Contains(err.Error(), "mirror_auth: upstreams.registry.test.auth_realm is missing") {
		t.Errorf("Load without a realm = %v; want it missed", err)
	}
	c := load(t, config.Sources{File: file(t, mine+", auth_realm: 'https://auth.test/token', auth_service: s}}")})
	if u := c.Upstreams["registry.test"]; u.AuthRealm != "https://auth.test/token" || u.AuthService != "s" {
		t.Errorf("Upstreams[registry.test] = %+v", u)
	}
	for _, text := range []string{"basic", "on"} {
		if _, err := config.Load(config.Sources{File: file(t, "mirror_auth: "+text)}); err == nil {
			t.Errorf("mirror_auth: %s is taken; want it refused", text)
		}
	}
	// A docker.io that is elsewhere has another token service, if any.
	c = load(t, config.Sources{File: file(t, "upstreams: {docker.io: {url: 'http://127.0.0.1:9'}}")})
	if u := c.Upstreams["docker.io"]; u.AuthRealm != "" || u.AuthService != "" {
		t.Errorf("docker.io at another address has the realm %q; want none", u.AuthRealm)
	}
	_, err = config.Load(config.Sources{File: file(t, "upstreams: {ghcr.io: {auth_realm: 'https://ann:hunter2@auth.test/'}}")})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Load of a realm with a password = %v; want it refused unseen", err)
	}
}
