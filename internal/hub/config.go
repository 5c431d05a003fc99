package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Same as AuthListen or CDNListen has the token service or the CDN answer on the registry's
// listener, at paths of their own.
const Same = "same"

// Config says what a Hub imitates. The zero value is Docker Hub in small: three listeners on free
// ports of 127.0.0.1, tokens for everybody, blobs by redirect, no pull limit, content in memory.
type Config struct {
	// Listen, AuthListen and CDNListen are TCP addresses; empty is 127.0.0.1 with a free port.
	// AuthListen and CDNListen may be Same. AdminListen opens the admin API; empty: none.
	Listen, AuthListen, CDNListen, AdminListen string
	// RegistryListener, AuthListener and CDNListener, if set, are used instead of the addresses
	// (they may live in another network namespace). The Hub closes them.
	RegistryListener, AuthListener, CDNListener net.Listener
	// RegistryURL, AuthURL and CDNURL are what clients are told to use, such as
	// "https://auth.docker.io". Empty: derived from the listener's address, or from the request's
	// Host header where the listener is bound to all addresses.
	RegistryURL, AuthURL, CDNURL string
	// TLS, if set, is used on all three listeners (not on the admin API).
	TLS *tls.Config

	// Backend is the URL of a registry that keeps the content; empty: the Hub keeps it itself.
	Backend string
	// Dir is the folder that blobs pushed to the Hub itself are written to; empty: they stay in
	// memory. Nothing is read from it at the start and nothing but unfinished uploads removed at
	// the end.
	Dir string

	// AuthOff makes it a plain registry without tokens, such as a second upstream.
	AuthOff bool
	// Service is the token service's name; empty: "registry.docker.io".
	Service string
	// TokenTTL is how long a token is good; 0: 300 s, as Docker Hub does.
	TokenTTL time.Duration
	// Users maps names to passwords. Users may push; with AuthOff everybody may. SetPassword changes them.
	Users map[string]string
	// Private maps a repository to the users that may pull it. All others are public. SetReaders and SetPublic change
	// that.
	Private map[string][]string
	// Basic has the registry itself ask for names and passwords, and give no tokens. What is public is given to who
	// brings none.
	Basic bool
	// Hide answers 404 for private repositories to those who may not read them, once they have a token, or where the
	// registry wants Basic: whether there is such a repository is not told.
	Hide bool

	// NoRedirect answers blob GETs itself instead of redirecting to the CDN.
	NoRedirect bool
	// RedirectTTL is how long a redirect's URL is good; 0: 10 minutes.
	RedirectTTL time.Duration
	// NoReferrersAPI answers 404 to /referrers/, as registries before OCI 1.1 do.
	NoReferrersAPI bool
	// PullLimit is the number of manifest GETs that one source (a user, or an address) may make
	// in PullWindow; above it the answer is 429. 0: no limit and no rate-limit headers.
	PullLimit int
	// PullWindow is the limit's window; 0: 6 h, as Docker Hub does.
	PullWindow time.Duration
	// Rate limits all blob bytes together, in bytes a second; 0: no limit.
	Rate int64
}

// Default returns the configuration of a Hub with Docker Hub's own figures.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:0", AuthListen: "127.0.0.1:0", CDNListen: "127.0.0.1:0",
		Service: "registry.docker.io", TokenTTL: 300 * time.Second, RedirectTTL: 10 * time.Minute,
		PullWindow: 6 * time.Hour,
	}
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for key, text := range map[string]string{
		"RegistryURL": c.RegistryURL, "AuthURL": c.AuthURL, "CDNURL": c.CDNURL, "Backend": c.Backend,
	} {
		if err := validURL(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	for key, n := range map[string]int64{
		"TokenTTL": int64(c.TokenTTL), "RedirectTTL": int64(c.RedirectTTL), "PullWindow": int64(c.PullWindow),
		"PullLimit": int64(c.PullLimit), "Rate": c.Rate,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is below 0", key, n))
		}
	}
	for repo, users := range c.Private {
		for _, user := range users {
			if _, ok := c.Users[user]; !ok {
				errs = append(errs, fmt.Errorf("Private: %s names the unknown user %q", repo, user)) //nolint:staticcheck // the key is written so
			}
		}
	}
	return errors.Join(errs...)
}

func validURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is no http or https URL", text)
	}
	return nil
}

// filled returns c with Default's values where c says nothing.
func (c Config) filled() Config {
	d := Default()
	for _, p := range []struct {
		to   *string
		from string
	}{{&c.Listen, d.Listen}, {&c.AuthListen, d.AuthListen}, {&c.CDNListen, d.CDNListen}, {&c.Service, d.Service}} {
		if *p.to == "" {
			*p.to = p.from
		}
	}
	for _, p := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&c.TokenTTL, d.TokenTTL}, {&c.RedirectTTL, d.RedirectTTL}, {&c.PullWindow, d.PullWindow}} {
		if *p.to == 0 {
			*p.to = p.from
		}
	}
	return c
}
