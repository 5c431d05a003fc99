package main

import (
	"net/url"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/internal/version"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func assembleUpstreams(cfg config.Config, c *node.Config) {
	c.Upstreams = make(map[string]node.Upstream)
	c.Registry.Names = oci.Names{Default: cfg.DefaultUpstream}
	for name, u := range cfg.Upstreams {
		c.Upstreams[name] = node.Upstream{
			Client: upstreamClient(name, u), TagTTL: u.TagTTL, Connections: u.Connections,
			Shared: u.Shared, AuthTTL: u.AuthTTL, AuthStale: u.AuthStale,
		}
		c.Registry.Names.Upstreams = append(c.Registry.Names.Upstreams, name)
	}
	c.MirrorAuthBearer = cfg.MirrorAuth == "bearer"
	c.AuthRealm, c.AuthService = cfg.Upstreams[cfg.DefaultUpstream].AuthRealm, cfg.Upstreams[cfg.DefaultUpstream].AuthService
}

func upstreamClient(name string, u config.Upstream) upstream.Config {
	c := upstream.Default()
	c.Name, c.URL, c.Proxy, c.CAFile = name, u.URL, u.Proxy, u.CAFile
	c.NoProxy = strings.Join(u.NoProxy, ",")
	c.UserAgent = "pullonce/" + version.String()
	c.MaxConcurrent = u.MaxConcurrent
	c.BytesPerSecond = u.Rate
	c.AuthRealm, c.AuthService = u.AuthRealm, u.AuthService
	if realm, err := url.Parse(u.AuthRealm); err == nil && realm.Host != "" {
		c.AuthHosts = append(c.AuthHosts, strings.ToLower(realm.Hostname()))
	}
	for _, rule := range u.Credentials {
		c.Credentials = append(c.Credentials, upstream.Rule{Match: rule.Match, Source: source(name, u, rule)})
	}
	if u.Username != "" {
		all, err := access.ParsePattern("*")
		if err != nil {
			panic(err) // it is a pattern
		}
		c.Credentials = append(c.Credentials, upstream.Rule{Match: all, Source: upstream.PasswordFile(u.Username, u.PasswordFile)})
	}
	return c
}

// source is where the credentials of a rule come from. Files are read, and programs run, when the credentials are needed.
func source(name string, u config.Upstream, rule config.Credential) upstream.Source {
	switch {
	case rule.DockerConfig != "":
		return upstream.DockerConfig(rule.DockerConfig, dockerHost(name, u))
	case rule.Helper != "":
		return upstream.Helper(rule.Helper, dockerHost(name, u))
	case len(rule.Exec) > 0:
		return upstream.Exec(rule.Username, rule.Exec...)
	}
	return upstream.PasswordFile(rule.Username, rule.PasswordFile)
}

// dockerHubHost is what Docker calls the Hub where it keeps credentials.
const dockerHubHost = "https://index.docker.io/v1/"

// dockerHost is an upstream's name where Docker and its helpers keep credentials.
func dockerHost(name string, u config.Upstream) string {
	if name == oci.DockerHub {
		return dockerHubHost
	}
	if at, err := url.Parse(u.URL); err == nil && at.Host != "" {
		return at.Host
	}
	return name
}

// credentialFiles are the files that credentials come from.
func credentialFiles(cfg config.Config) []string {
	var files []string
	for _, u := range cfg.Upstreams {
		files = append(files, u.PasswordFile)
		for _, rule := range u.Credentials {
			files = append(files, rule.PasswordFile, rule.DockerConfig)
		}
	}
	files = slices.DeleteFunc(files, func(file string) bool { return file == "" })
	slices.Sort(files)
	return slices.Compact(files)
}
