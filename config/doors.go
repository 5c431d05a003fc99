package config

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/access"
)

const (
	tlsOff   = "off"
	tlsFiles = "files"
	tlsFarm  = "farm"
)

// leastAdminToken is how long a token must be that nobody is to guess.
const leastAdminToken = 16

func doorKeys() []key {
	return []key{
		one("registry.tls.mode", "", "none; files where registry.tls.cert_file is set", "off, files or farm", parseTLSMode,
			"How the registry is encrypted on addresses beyond loopback, which need it to be said. files: by your certificate. farm: by one of the farm's CA, which clients have to trust. off: not at all, where the network is trusted.",
			func(c *Config) *string { return &c.Registry.TLS.Mode }),
		one("registry.tls.cert_file", "", "none", "path", anyText,
			"Certificate of the registry with what leads to its CA, PEM. Read again when it changes.",
			func(c *Config) *string { return &c.Registry.TLS.CertFile }),
		one("registry.tls.key_file", "", "none", "path", anyText,
			"The certificate's key.",
			func(c *Config) *string { return &c.Registry.TLS.KeyFile }),
		one("registry.users_file", "", "none", "path", anyText,
			"Users of what is pushed to the farm: lines as `htpasswd -B` writes them. Read again when it changes. Where there are users, or tokens, they are needed to push on every address, loopback too.",
			func(c *Config) *string { return &c.Registry.UsersFile }),
		one("registry.token.realm", "", "none", "URL", realmURL,
			"Where clients get tokens: the address of a token service as the distribution project specifies it.",
			func(c *Config) *string { return &c.Registry.Token.Realm }),
		one("registry.token.service", "", "none", textUnit, anyText,
			"The farm's name at the token service, which tokens must be for.",
			func(c *Config) *string { return &c.Registry.Token.Service }),
		one("registry.token.issuer", "", "none", textUnit, anyText,
			"Who tokens must be issued by.",
			func(c *Config) *string { return &c.Registry.Token.Issuer }),
		one("registry.token.keys_file", "", "none", "path", anyText,
			"What tokens are signed with: certificates or public keys, PEM, or a JWKS. Read again when it changes.",
			func(c *Config) *string { return &c.Registry.Token.KeysFile }),
		{Key: Key{
			Path: rightsKey, Default: "none: all may read, users may write and delete", Unit: "list of {match, who, allow}",
			Help: "Who may do what with what is pushed to the farm. match: team/app, team/* or *. who: users, * for all of them, anonymous for everybody. allow: read, write, delete. A repository that any rule matches is open to those alone that its rules name.",
		}, set: setRights},
		one("admin.token_file", "", "none: over HTTP nothing can be changed", "path", anyText,
			"File with the token that changes something over HTTP: `Authorization: Bearer TOKEN`. The unix socket needs none.",
			func(c *Config) *string { return &c.Admin.TokenFile }),
	}
}

// withDoors puts doorKeys behind the other keys of their sections.
func withDoors(table []key) []key {
	for _, k := range doorKeys() {
		section, _, _ := strings.Cut(k.Path, ".")
		at := len(table)
		for i, other := range table {
			if strings.HasPrefix(other.Path, section+".") {
				at = i + 1
			}
		}
		table = slices.Insert(table, at, k)
	}
	return table
}

// parseTLSMode takes what YAML 1.1 makes of off, too.
func parseTLSMode(text string) (string, error) {
	if text == "false" {
		text = tlsOff
	}
	return oneOf(tlsOff, tlsFiles, tlsFarm)(text)
}

// doors checks what protects the registry and the admin API.
func (l *loader) doors() {
	l.registryTLS()
	l.registryUsers()
	if name := l.config.Admin.TokenFile; name != "" {
		raw, err := readable(name)
		if err != nil {
			l.wrong("admin.token_file", "%v", err)
		} else if len(bytes.TrimSpace(raw)) < leastAdminToken {
			l.wrong("admin.token_file", "%s has fewer than %d characters: they could be guessed", name, leastAdminToken)
		}
	}
}

func (l *loader) registryTLS() {
	t := &l.config.Registry.TLS
	if t.Mode == "" && (t.CertFile != "" || t.KeyFile != "") {
		t.Mode = tlsFiles
	}
	for path, value := range map[string]string{"registry.tls.cert_file": t.CertFile, "registry.tls.key_file": t.KeyFile} {
		if t.Mode == tlsFiles && value == "" {
			l.wrong(path, "is missing: registry.tls.mode files needs it")
		}
		if t.Mode != tlsFiles && value != "" {
			l.wrong(path, "is for registry.tls.mode files, and registry.tls.mode is %s", t.Mode)
		}
	}
	if t.Mode == tlsFiles && t.CertFile != "" && t.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			l.wrong("registry.tls.cert_file", "%v", err)
		}
	}
	if t.Mode == tlsFarm && l.config.Trust.Mode != trustAuto {
		l.wrong("registry.tls.mode", "farm needs a CA of the farm, and trust.mode is %s: use files", l.config.Trust.Mode)
	}
	if t.Mode != "" || l.bad["registry.tls.mode"] {
		return
	}
	for _, text := range l.config.Registry.Listen {
		if a, err := netip.ParseAddrPort(text); err == nil && !a.Addr().Unmap().IsLoopback() {
			l.wrong("registry.listen", "%s: other hosts could read and change what passes: set registry.tls.cert_file and key_file, "+
				"or registry.tls.mode: farm, or say registry.tls.mode: off where the network is trusted", text)
		}
	}
}

func (l *loader) registryUsers() {
	r := &l.config.Registry
	if r.UsersFile != "" {
		if _, err := access.OpenUsers(r.UsersFile); err != nil {
			l.wrong("registry.users_file", "%v", err)
		}
	}
	if r.Token != (access.TokenService{}) {
		missing := false
		for path, value := range map[string]string{
			"realm": r.Token.Realm, "service": r.Token.Service, "issuer": r.Token.Issuer, "keys_file": r.Token.KeysFile,
		} {
			if value == "" {
				l.wrong("registry.token."+path, "is missing: a token service needs it")
				missing = true
			}
		}
		if !missing {
			if _, err := access.OpenTokens(r.Token); err != nil {
				l.wrong("registry.token.keys_file", "%v", err)
			}
		}
	}
	if len(r.Rights) > 0 && r.UsersFile == "" && r.Token == (access.TokenService{}) {
		l.wrong(rightsKey, "there is nobody to log in as: set registry.users_file or registry.token")
	}
}
