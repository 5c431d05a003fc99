package upstream

import (
	"net/url"
	"testing"
)

func TestCredentialsGoToHostsOfTheSameOwnerOnly(t *testing.T) {
	for _, row := range []struct {
		base, realm string
		want        bool
	}{
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://ghcr.io", "https://ghcr.io/token", true},
		{"https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true},
		{"https://registry.example.co.uk", "https://auth.example.co.uk/", true},
		{"https://registry.example.co.uk", "https://evil.co.uk/", false},
		{"https://me.github.io", "https://you.github.io/", false}, // a public suffix
		{"https://registry-1.docker.io", "https://docker.io.evil.com/", false},
		{"https://registry-1.docker.io", "https://evildocker.io/", false},
		{"https://10.0.0.1", "https://10.0.0.1:8443/", true},
		{"https://10.0.0.1", "https://10.0.0.2/", false},
		{"https://localhost:5000", "https://localhost/", true},
		{"https://localhost", "https://127.0.0.1/", false},
		{"https://registry", "https://auth/", false},
		{"https://registry-1.docker.io", "https://Tokens.Example/", true}, // in AuthHosts
	} {
		base, _ := url.Parse(row.base)
		realm, _ := url.Parse(row.realm)
		a := &registry{cfg: Config{AuthHosts: []string{"tokens.example"}}, base: base}
		if got := a.trusts(realm); got != row.want {
			t.Errorf("credentials of %s go to %s: %v; want %v", row.base, row.realm, got, row.want)
		}
	}
}

func TestAddressesFollowFromNames(t *testing.T) {
	for _, row := range []struct{ name, url, want string }{
		{"docker.io", "", "https://registry-1.docker.io"},
		{"ghcr.io", "", "https://ghcr.io"},
		{"mine", "http://10.0.0.1:5000/", "http://10.0.0.1:5000"},
		{"mine", "https://host/prefix/v2/", "https://host/prefix"},
	} {
		base, err := parseBase(Config{Name: row.name, URL: row.url}.address())
		if err != nil || base.String() != row.want {
			t.Errorf("%s at %q is %v, %v; want %s", row.name, row.url, base, err, row.want)
		}
	}
}
