package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

// A Secret is a password that does not show itself in logs and messages. Convert it to string to use it.
type Secret string

// String is "[secret]", or "" when there is none.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[secret]"
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, so that a configuration that is written out shows no password.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Config says where an upstream is and how it may be used. Take one from Default and change it.
type Config struct {
	// Name is the upstream's name in repositories, such as "docker.io".
	Name string
	// URL is the registry's address, scheme and host, perhaps with a path before /v2/. Default "": https:// and Name,
	// or https://registry-1.docker.io for docker.io.
	URL string
	// Proxy is the URL of an HTTP, HTTPS or SOCKS5 proxy for all requests, those to token services and CDNs included.
	// Default "": none. Loopback addresses are never asked through it.
	Proxy string
	// NoProxy lists hosts, domains and networks that are asked without Proxy, in the syntax of $NO_PROXY.
	NoProxy string
	// CAFile is a file of PEM certificates that are trusted beside the system's. Default "": only the system's.
	CAFile string

	// Credentials says with whose credentials the farm asks for which repositories; the first rule that matches holds.
	// Default none: anonymous.
	Credentials []Rule
	// Username and Password are the credentials where no rule matches. Default "": anonymous.
	Username string
	Password Secret
	// AuthHosts are hosts (without port) of token services that the credentials may be sent to, beside the upstream's
	// own host and hosts of the same registrable domain (auth.docker.io for registry-1.docker.io).
	AuthHosts []string

	// AuthRealm is the URL of the token service that Client.Challenge names, and AuthService the registry's name there.
	// Default "": as the upstream says.
	AuthRealm, AuthService string

	// MaxConcurrent is how many blobs are read at once, and how many other requests are made at once; more wait.
	// Default 32.
	MaxConcurrent int
	// BytesPerSecond limits what all answers together are read at. Default 0: no limit.
	BytesPerSecond int64
	// Shared, when set, limits what this upstream's answers and those of all others that have it are read at together.
	Shared *Limit
	// FirstByteTimeout is the time from the start of a request to the first byte of the answer, with connecting,
	// tokens, redirects and retries included. Default 8 s: the registry door answers its clients within 10 s.
	FirstByteTimeout time.Duration
	// StallTimeout is how long a body may stay without a byte. Default 15 s.
	StallTimeout time.Duration
	// MinBytesPerSecond is the rate below which a body counts as stalled although a byte comes now and then, over the
	// time of two StallTimeouts spent waiting for it. Default 1024; 0: no floor.
	MinBytesPerSecond int64
	// DialTimeout bounds connecting to one host. Default 3 s.
	DialTimeout time.Duration
	// TLSTimeout bounds a TLS handshake. Default 5 s.
	TLSTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. Default 90 s.
	IdleTimeout time.Duration
	// Retries is how often a request that met a connection error, 5xx or a short Retry-After is made again within
	// FirstByteTimeout. Default 3.
	Retries int
	// Resumes is how often in a row a Stream goes on after a cut without progress. Default 6.
	Resumes int
	// RetryWait is the mean wait before the first retry; it doubles with each. Default 100 ms.
	RetryWait time.Duration
	// RedirectTTL is how long the target of a blob's redirect is used again without asking the registry. Default
	// 60 s; 0: never.
	RedirectTTL time.Duration
	// BreakerFailures is how many failures of one host in a row open its circuit breaker. Default 8.
	BreakerFailures int
	// BreakerWait is how long an open breaker refuses before it lets one request probe; it doubles with each probe that
	// fails, up to 16 times as long. Default 2 s.
	BreakerWait time.Duration

	// UserAgent is sent with every request. Default "pullonce".
	UserAgent string
	// ReadBuffer is the size in bytes of a connection's read buffer. Reads of at least this size bypass it. Default
	// 16 KiB.
	ReadBuffer int
	// Dial opens connections. Default nil: the system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Default is the configuration of Docker Hub, anonymous and unlimited. Other upstreams need at least another Name.
func Default() Config {
	return Config{
		Name:              oci.DockerHub,
		MaxConcurrent:     32,
		FirstByteTimeout:  8 * time.Second,
		StallTimeout:      15 * time.Second,
		MinBytesPerSecond: 1024,
		DialTimeout:       3 * time.Second,
		TLSTimeout:        5 * time.Second,
		IdleTimeout:       90 * time.Second,
		Retries:           3,
		Resumes:           6,
		RetryWait:         100 * time.Millisecond,
		RedirectTTL:       time.Minute,
		BreakerFailures:   8,
		BreakerWait:       2 * time.Second,
		UserAgent:         "pullonce",
		ReadBuffer:        16 << 10,
	}
}

// Validate reports all that is wrong with c at once. It opens no file and asks no host.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" {
		bad("name: must not be empty")
	}
	if _, err := parseBase(c.address()); err != nil && c.Name != "" {
		errs = append(errs, err)
	}
	if err := checkProxy(c.Proxy); err != nil {
		errs = append(errs, err)
	}
	if c.Username == "" && c.Password != "" {
		bad("username: must be set when a password is")
	}
	if strings.Contains(c.Username, ":") {
		bad("username: must not contain a colon")
	}
	for i, rule := range c.Credentials {
		if rule.Source == nil || rule.Match == (access.Pattern{}) {
			bad("credentials: rule %d lacks a pattern or a source", i+1)
		}
	}
	for key, value := range map[string]int64{
		"max_concurrent": int64(c.MaxConcurrent), "breaker_failures": int64(c.BreakerFailures), "read_buffer": int64(c.ReadBuffer),
	} {
		if value < 1 {
			bad("%s: is %d, must be at least 1", key, value)
		}
	}
	for key, value := range map[string]int64{
		"bytes_per_second": c.BytesPerSecond, "min_bytes_per_second": c.MinBytesPerSecond,
		"retries": int64(c.Retries), "resumes": int64(c.Resumes), "redirect_ttl": int64(c.RedirectTTL),
	} {
		if value < 0 {
			bad("%s: is %d, must not be negative", key, value)
		}
	}
	for key, value := range map[string]time.Duration{
		"first_byte_timeout": c.FirstByteTimeout, "stall_timeout": c.StallTimeout, "dial_timeout": c.DialTimeout,
		"tls_timeout": c.TLSTimeout, "idle_timeout": c.IdleTimeout, "retry_wait": c.RetryWait, "breaker_wait": c.BreakerWait,
	} {
		if value <= 0 {
			bad("%s: is %v, must be positive", key, value)
		}
	}
	return errors.Join(errs...)
}

// address is URL, or what follows from Name.
func (c Config) address() string {
	switch {
	case c.URL != "":
		return c.URL
	case c.Name == oci.DockerHub:
		return "https://registry-1.docker.io"
	}
	return "https://" + c.Name
}

// parseBase reads an upstream's URL. Its errors do not repeat the text, which may carry a password.
func parseBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("url: is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("url: must be http:// or https:// and a host")
	case u.User != nil:
		return nil, errors.New("url: must not carry credentials, set username and password")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url: must have no query and no fragment")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v2")
	u.RawPath = ""
	return u, nil
}

// checkProxy accepts the URL of a proxy, and none.
func checkProxy(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("proxy: is not a URL with a host")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return nil
	}
	return fmt.Errorf("proxy: scheme %.20q is not one of http, https, socks5, socks5h", u.Scheme)
}
