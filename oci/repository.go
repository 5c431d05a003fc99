package oci

import (
	"fmt"
	"slices"
	"strings"
)

// maxNameBytes bounds a repository name with its upstream, as common registries do.
const maxNameBytes = 255

// A Repository is a named collection of manifests and tags at one upstream. Repositories are comparable.
type Repository struct {
	Upstream string // the upstream's name from the configuration, such as "docker.io"
	Path     string // the name at the upstream, such as "library/nginx"
}

// String is "upstream/path".
func (r Repository) String() string { return r.Upstream + "/" + r.Path }

// Names turns the names that clients use into repositories. The upstreams are a closed list: an open one would make
// every node a proxy into its network.
type Names struct {
	Default      string   // upstream of names that carry none, "docker.io"
	Upstreams    []string // all upstreams by name, Default among them
	HostedPrefix string   // first element of names that the farm itself hosts; "" hosts none
}

// Repository resolves a name in the four ways of the registry door: ns names the upstream and goes before all else;
// else the first element of path may name an upstream; else it is a name of the default upstream, where one element
// alone means "library/…" for docker.io, as dockerd's short names do. docker.io, registry-1.docker.io and
// index.docker.io are one. The error is ErrNameInvalid or, for an upstream that is not configured, ErrNameUnknown.
func (n Names) Repository(path, ns string) (Repository, error) {
	if err := CheckPath(path); err != nil {
		return Repository{}, err
	}
	if ns != "" {
		return n.named(path, canonicalUpstream(ns))
	}
	if first, rest, ok := strings.Cut(path, "/"); ok && n.known(canonicalUpstream(first)) {
		return n.complete(canonicalUpstream(first), rest), nil
	} else if ok && looksLikeHost(first) {
		return Repository{}, fmt.Errorf("%w: upstream %q is not configured", ErrNameUnknown, first)
	}
	return n.complete(n.Default, path), nil
}

// named resolves a name whose upstream the client gave as ns. A path that repeats the upstream as its first element
// (a containerd host with a path prefix sends both) names it once.
func (n Names) named(path, upstream string) (Repository, error) {
	if !n.known(upstream) {
		return Repository{}, fmt.Errorf("%w: upstream %.100q is not configured", ErrNameUnknown, upstream)
	}
	if first, rest, ok := strings.Cut(path, "/"); ok && canonicalUpstream(first) == upstream {
		path = rest
	}
	return n.complete(upstream, path), nil
}

func (n Names) known(upstream string) bool {
	return slices.Contains(n.Upstreams, upstream) || (n.HostedPrefix != "" && upstream == n.HostedPrefix)
}

func (n Names) complete(upstream, path string) Repository {
	if upstream == DockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return Repository{Upstream: upstream, Path: path}
}

// DockerHub is the name of the upstream that Docker's short names belong to.
const DockerHub = "docker.io"

func canonicalUpstream(name string) string {
	switch name {
	case "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com":
		return DockerHub
	}
	return name
}

// looksLikeHost follows the rule by which clients tell a host from a path element (distribution/reference).
func looksLikeHost(element string) bool {
	return strings.ContainsAny(element, ".:") || element == "localhost"
}

// CheckPath tells whether path can be a repository's name; ErrNameInvalid. It holds a name to the grammar of the OCI distribution specification:
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*, where a first element that names an upstream may also carry a port.
func CheckPath(path string) error {
	if path == "" || len(path) > maxNameBytes {
		return fmt.Errorf("%w: length %d", ErrNameInvalid, len(path))
	}
	for i, element := range strings.Split(path, "/") {
		if i == 0 {
			host, port, ok := strings.Cut(element, ":")
			if ok && isDigits(port) {
				element = host
			}
		}
		if !validElement(element) {
			return fmt.Errorf("%w: element %.80q", ErrNameInvalid, element)
		}
	}
	return nil
}

func validElement(s string) bool {
	alnumBefore := false
	for i := 0; i < len(s); {
		if isAlnum(s[i]) {
			alnumBefore = true
			i++
			continue
		}
		n := separator(s[i:])
		if n == 0 || !alnumBefore || i+n >= len(s) || !isAlnum(s[i+n]) {
			return false
		}
		i += n
	}
	return alnumBefore
}

// separator is the length of the separator that s starts with: ".", "_", "__" or any run of "-".
func separator(s string) int {
	switch s[0] {
	case '.':
		return 1
	case '_':
		if len(s) > 1 && s[1] == '_' {
			return 2
		}
		return 1
	case '-':
		return len(s) - len(strings.TrimLeft(s, "-"))
	}
	return 0
}

func isAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 5
}
