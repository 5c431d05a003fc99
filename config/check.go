package config

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxSocketPath is what the kernel takes.
const maxSocketPath = 107

// finish works out the defaults that depend on other keys and checks what no key
// shows by itself.
func (l *loader) finish(s Sources) {
	l.paths(s)
	l.listeners()
	l.advertise("peer.advertise", l.config.Peer.Listen, &l.config.Peer.Advertise)
	l.advertise("gossip.advertise", l.config.Gossip.Listen, &l.config.Gossip.Advertise)
	l.trust()
	l.doors()
	l.clashes()
	l.upstreams()
	l.hosted()
}

func (l *loader) origin(path string) origin {
	if at, ok := l.said[path]; ok {
		return at
	}
	return origin{kind: fromDefault}
}

func (l *loader) wasSaid(path string) bool { _, ok := l.said[path]; return ok }

// wrong reports a problem with the value that a key has in the end, unless that
// could not be read anyway.
func (l *loader) wrong(path, format string, args ...any) {
	if l.bad[path] {
		return
	}
	l.problem(l.origin(path), path, fmt.Sprintf(format, args...))
}

func (l *loader) paths(s Sources) {
	c := &l.config
	if !l.wasSaid("data_dir") {
		c.DataDir = userDataDir
		if s.Root {
			c.DataDir = rootDataDir
		}
	}
	if strings.TrimSpace(c.DataDir) == "" {
		l.wrong("data_dir", "is empty")
	}
	if !l.wasSaid("admin.socket") {
		dir := c.DataDir
		if info, err := os.Stat(runSocketDir); err == nil && info.IsDir() && c.DataDir == rootDataDir {
			dir = runSocketDir
		}
		c.Admin.Socket = filepath.Join(dir, socketName)
	}
	if len(c.Admin.Socket) > maxSocketPath {
		l.wrong("admin.socket", "%s has %d bytes: a socket's path has at most %d", c.Admin.Socket, len(c.Admin.Socket), maxSocketPath)
	}
}

func (l *loader) listeners() {
	c := &l.config
	if !l.wasSaid("registry.listen") {
		c.Registry.Listen = []string{"127.0.0.1:5000", "[::1]:5000"}
		c.Registry.ListenDefaulted = true
	} else if len(c.Registry.Listen) == 0 {
		l.wrong("registry.listen", "is empty: want at least one address")
	}
	host := "0.0.0.0"
	if _, ok := ownAddress(c.Join); !ok && len(c.Join) == 0 {
		host = "127.0.0.1" // nobody can come
	}
	if !l.wasSaid("peer.listen") {
		c.Peer.Listen = host + ":7947"
	}
	if !l.wasSaid("gossip.listen") {
		c.Gossip.Listen = host + ":" + gossipPort
	}
}

func (l *loader) advertise(path, listen string, advertise *string) {
	if *advertise != "" {
		return
	}
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return // said already
	}
	if !a.Addr().IsUnspecified() {
		*advertise = listen
		return
	}
	own, ok := ownAddress(l.config.Join)
	if !ok {
		l.wrong(path, "this host's address is not to be found: set it, such as 10.0.0.5:%d", a.Port())
		return
	}
	*advertise = netip.AddrPortFrom(own, a.Port()).String()
}

// trust holds that what a mode needs was said, and nothing that it does not use.
func (l *loader) trust() {
	t := &l.config.Trust
	for path, value := range map[string]string{
		"trust.ca_file": t.CAFile, "trust.cert_file": t.CertFile, "trust.key_file": t.KeyFile, "trust.gossip_key_file": t.GossipKeyFile,
	} {
		switch _, err := readable(value); {
		case t.Mode == trustFiles && value == "":
			l.wrong(path, "is missing: trust.mode files needs it")
		case t.Mode != trustFiles && value != "":
			l.wrong(path, "is for trust.mode files, and trust.mode is %s", t.Mode)
		case err != nil:
			l.wrong(path, "%v", err)
		}
	}
	for path, value := range map[string]string{"trust.token": t.Token, "trust.token_file": t.TokenFile} {
		if value != "" && t.Mode != trustAuto {
			l.wrong(path, "is for trust.mode auto, and trust.mode is %s", t.Mode)
		}
	}
	if t.Token != "" && t.TokenFile != "" {
		l.wrong("trust.token_file", "trust.token is set, too: want one of them")
	}
}

// clashes finds listeners that cannot be taken at the same time.
func (l *loader) clashes() {
	c := &l.config
	type listener struct {
		path string
		addr netip.AddrPort
	}
	var taken []listener
	claim := func(path string, addresses ...string) {
		for _, text := range addresses {
			a, err := netip.ParseAddrPort(text)
			if err != nil || a.Port() == 0 {
				continue
			}
			for _, t := range taken {
				if a.Port() != t.addr.Port() || !overlap(a.Addr(), t.addr.Addr()) {
					continue
				}
				if !l.wasSaid(path) && l.wasSaid(t.path) { // the one to change is the one that somebody wrote
					l.wrong(t.path, "%s is taken by %s (%s, by default)", t.addr, path, a)
					continue
				}
				l.wrong(path, "%s is taken by %s (%s)", a, t.path, t.addr)
			}
			taken = append(taken, listener{path, a})
		}
	}
	claim("registry.listen", c.Registry.Listen...)
	claim("peer.listen", c.Peer.Listen)
	claim("gossip.listen", c.Gossip.Listen)
	claim("admin.listen", c.Admin.Listen)
}

func overlap(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	switch {
	case a == b:
		return true
	case a.IsUnspecified():
		return a.Is6() || b.Is4() // [::] takes IPv4 as well
	case b.IsUnspecified():
		return b.Is6() || a.Is4()
	}
	return false
}

// readable is what a file has that must be there; nothing for "".
func readable(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}

func (l *loader) upstreams() {
	c := &l.config
	if c.DefaultUpstream == dockerHub {
		l.addUpstream(origin{kind: fromDefault}, dockerHub)
	}
	if _, ok := c.Upstreams[c.DefaultUpstream]; !ok {
		l.wrong("default_upstream", "%s is not among the upstreams", c.DefaultUpstream)
	}
	l.tokenService()
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		u := c.Upstreams[name]
		prefix := "upstreams." + name + "."
		if u.Username != "" && u.PasswordFile == "" {
			l.wrong(prefix+"username", "a password_file is missing")
		}
		if u.PasswordFile != "" && u.Username == "" {
			l.wrong(prefix+"password_file", "a username is missing")
		}
		if _, err := readable(u.PasswordFile); err != nil {
			l.wrong(prefix+"password_file", "%v", err)
		}
		if raw, err := readable(u.CAFile); err != nil {
			l.wrong(prefix+"ca_file", "%v", err)
		} else if u.CAFile != "" && !x509.NewCertPool().AppendCertsFromPEM(raw) {
			l.wrong(prefix+"ca_file", "%s has no certificate in PEM form", u.CAFile)
		}
	}
}

// tokenService is Docker Hub's where docker.io is Docker Hub, and must be known where clients are sent to it.
func (l *loader) tokenService() {
	c := &l.config
	if hub, ok := c.Upstreams[dockerHub]; ok && hub.URL == dockerHubURL && !l.wasSaid("upstreams.docker.io.auth_realm") {
		hub.AuthRealm = dockerHubRealm
		if !l.wasSaid("upstreams.docker.io.auth_service") {
			hub.AuthService = dockerHubService
		}
		c.Upstreams[dockerHub] = hub
	}
	if c.MirrorAuth == "bearer" && c.Upstreams[c.DefaultUpstream].AuthRealm == "" {
		l.wrong("mirror_auth", "upstreams.%s.auth_realm is missing: the token service that clients are sent to", c.DefaultUpstream)
	}
}

// hosted keeps pushes from shadowing an upstream's images.
func (l *loader) hosted() {
	h := &l.config.Hosted
	switch h.Prefix {
	case dockerHub, "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com":
		l.wrong("hosted.prefix", "%s is Docker Hub's: pushes would shadow its images", h.Prefix)
	default:
		if _, ok := l.config.Upstreams[h.Prefix]; ok {
			l.wrong("hosted.prefix", "%s is an upstream: pushes would shadow its images", h.Prefix)
		}
	}
	if !l.wasSaid("hosted.min_copies") {
		h.MinCopies = min(defaultMin, h.Copies)
	}
	if h.MinCopies > h.Copies && !l.bad["hosted.copies"] {
		l.wrong("hosted.min_copies", "%d is more than hosted.copies, which is %d", h.MinCopies, h.Copies)
	}
}
