package oci_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/pullonce/pullonce/oci"
)

var names = oci.Names{
	Default:      oci.DockerHub,
	Upstreams:    []string{oci.DockerHub, "ghcr.io", "registry.example.com:5000", "localhost:5001"},
	HostedPrefix: "farm.internal",
}

func TestNamesOfTheRegistryDoor(t *testing.T) {
	for _, c := range []struct {
		path, ns string
		want     oci.Repository
	}{
		// dockerd's mirror requests.
		{"library/nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"grafana/grafana", "", oci.Repository{Upstream: "docker.io", Path: "grafana/grafana"}},
		{"a/b/c/d", "", oci.Repository{Upstream: "docker.io", Path: "a/b/c/d"}},
		// containerd: ns goes before all else.
		{"library/nginx", "docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"library/nginx", "registry-1.docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"library/nginx", "index.docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"nginx", "docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"org/app", "ghcr.io", oci.Repository{Upstream: "ghcr.io", Path: "org/app"}},
		{"app", "ghcr.io", oci.Repository{Upstream: "ghcr.io", Path: "app"}},
		{"library/nginx", "ghcr.io", oci.Repository{Upstream: "ghcr.io", Path: "library/nginx"}},
		{"org/app", "registry.example.com:5000", oci.Repository{Upstream: "registry.example.com:5000", Path: "org/app"}},
		// ns repeated as the first element of the path.
		{"ghcr.io/org/app", "ghcr.io", oci.Repository{Upstream: "ghcr.io", Path: "org/app"}},
		{"docker.io/library/nginx", "registry-1.docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"docker.io/nginx", "docker.io", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		// podman, or docker pull localhost:5000/ghcr.io/org/app.
		{"ghcr.io/org/app", "", oci.Repository{Upstream: "ghcr.io", Path: "org/app"}},
		{"ghcr.io/app", "", oci.Repository{Upstream: "ghcr.io", Path: "app"}},
		{"docker.io/library/nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"docker.io/nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"registry-1.docker.io/library/nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"index.docker.io/nginx", "", oci.Repository{Upstream: "docker.io", Path: "library/nginx"}},
		{"registry.example.com:5000/team/app", "", oci.Repository{Upstream: "registry.example.com:5000", Path: "team/app"}},
		{"localhost:5001/app", "", oci.Repository{Upstream: "localhost:5001", Path: "app"}},
		// Hosted.
		{"farm.internal/team/app", "", oci.Repository{Upstream: "farm.internal", Path: "team/app"}},
		{"team/app", "farm.internal", oci.Repository{Upstream: "farm.internal", Path: "team/app"}},
		{"farm.internal/team/app", "farm.internal", oci.Repository{Upstream: "farm.internal", Path: "team/app"}},
		// Separators.
		{"a.b/c_d/e__f/g-h/i---j", "ghcr.io", oci.Repository{Upstream: "ghcr.io", Path: "a.b/c_d/e__f/g-h/i---j"}},
		{"0/1", "", oci.Repository{Upstream: "docker.io", Path: "0/1"}},
	} {
		got, err := names.Repository(c.path, c.ns)
		if err != nil || got != c.want {
			t.Errorf("Repository(%q, %q) = %v, %v; want %v", c.path, c.ns, got, err, c.want)
		}
	}
}

func TestUpstreamsAreAClosedList(t *testing.T) {
	for _, c := range [][2]string{
		{"library/nginx", "quay.io"},
		{"quay.io/org/app", ""},
		{"localhost/app", ""},
		{"10.0.0.1/app", ""},
		{"example.com:443/app", ""},
		{"localhost:5000/app", ""},
		{"ghcr.io:443/org/app", ""},
		{"app", "ghcr.io:443"},
		{"app", "http://ghcr.io"},
		{"app", "GHCR.IO"},
		{"app", "ghcr.io/org"},
		{"app", "ghcr.io."},
	} {
		if got, err := names.Repository(c[0], c[1]); !errors.Is(err, oci.ErrNameUnknown) {
			t.Errorf("Repository(%q, %q) = %v, %v; want ErrNameUnknown", c[0], c[1], got, err)
		}
	}
}

func TestWithoutAHostedPrefixNothingIsHosted(t *testing.T) {
	plain := oci.Names{Default: oci.DockerHub, Upstreams: []string{oci.DockerHub}}
	for _, c := range [][2]string{{"farm.internal/team/app", ""}, {"team/app", "farm.internal"}} {
		if got, err := plain.Repository(c[0], c[1]); !errors.Is(err, oci.ErrNameUnknown) {
			t.Errorf("Repository(%q, %q) = %v, %v; want ErrNameUnknown", c[0], c[1], got, err)
		}
	}
}

func TestAnotherDefaultUpstreamCompletesNothing(t *testing.T) {
	other := oci.Names{Default: "ghcr.io", Upstreams: []string{"ghcr.io", oci.DockerHub}}
	for path, want := range map[string]oci.Repository{
		"app":             {Upstream: "ghcr.io", Path: "app"},
		"docker.io/nginx": {Upstream: "docker.io", Path: "library/nginx"},
	} {
		if got, err := other.Repository(path, ""); err != nil || got != want {
			t.Errorf("Repository(%q) = %v, %v; want %v", path, got, err, want)
		}
	}
}

func TestWhatIsNoNameIsRefused(t *testing.T) {
	for _, path := range []string{
		"", "/", "a/", "/a", "a//b", "A", "a/B", "a b", "a.", ".a", "a..b", "..", "a/..", "a/../b", "-a", "a-", "_a", "a_",
		"a___b", "a._b", "a_.b", "a.-b", "a:b", "a/b:80", "ghcr.io:/a", "ghcr.io:80x/a", "ghcr.io:123456/a", "é", "a\x00",
		"a\n", "a%2fb", "a\\b", "a@b", "ghcr.io/", "docker.io/", strings.Repeat("a", 256), strings.Repeat("a/", 127) + "aa",
	} {
		if got, err := names.Repository(path, ""); !errors.Is(err, oci.ErrNameInvalid) {
			t.Errorf("Repository(%q) = %v, %v; want ErrNameInvalid", path, got, err)
		}
	}
}

func TestARepositoryIsWrittenWithItsUpstream(t *testing.T) {
	if got := (oci.Repository{Upstream: "ghcr.io", Path: "org/app"}).String(); got != "ghcr.io/org/app" {
		t.Errorf("String() = %q; want ghcr.io/org/app", got)
	}
}

// FuzzRepository holds names to three properties: what is accepted belongs to a known upstream, is a name by the
// reference implementation's grammar, and means the same when it is written out and read again.
func FuzzRepository(f *testing.F) {
	for _, seed := range [][2]string{
		{"nginx", ""},
		{"library/nginx", "docker.io"},
		{"ghcr.io/a/b", ""},
		{"ghcr.io/a/b", "ghcr.io"},
		{"a..b", ""},
		{"registry.example.com:5000/x", ""},
		{"docker.io/docker.io/x", ""},
		{"index.docker.io/x", "registry-1.docker.io"},
		{"farm.internal/a", ""},
		{"a___b", "ghcr.io"},
		{"ghcr.io/ghcr.io/a", "ghcr.io"},
		{"localhost:5001/localhost:5001/a", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	known := map[string]bool{"farm.internal": true}
	for _, u := range names.Upstreams {
		known[u] = true
	}
	f.Fuzz(func(t *testing.T, path, ns string) {
		r, err := names.Repository(path, ns)
		if err != nil {
			if !errors.Is(err, oci.ErrNameInvalid) && !errors.Is(err, oci.ErrNameUnknown) {
				t.Fatalf("Repository(%q, %q): %v; want ErrNameInvalid or ErrNameUnknown", path, ns, err)
			}
			return
		}
		if !known[r.Upstream] || r.Path == "" {
			t.Fatalf("Repository(%q, %q) = %+v, which is of no known upstream", path, ns, r)
		}
		if r.Upstream == oci.DockerHub && !strings.Contains(r.Path, "/") {
			t.Fatalf("Repository(%q, %q) = %+v, which Docker Hub does not have", path, ns, r)
		}
		if _, err := reference.WithName("upstream.test/" + r.Path); err != nil {
			t.Fatalf("Repository(%q, %q) = %+v, whose path is no name: %v", path, ns, r, err)
		}
		again, err := names.Repository(r.String(), "")
		if err != nil || again != r {
			t.Fatalf("Repository(%q) = %v, %v; want %v, as it was written", r.String(), again, err, r)
		}
		again, err = names.Repository(r.String(), r.Upstream)
		if err != nil || again != r {
			t.Fatalf("Repository(%q, %q) = %v, %v; want %v", r.String(), r.Upstream, again, err, r)
		}
	})
}
