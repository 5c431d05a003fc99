package registryapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A Config says what the door answers to and how long it waits.
type Config struct {
	// Names turns the names in requests into repositories. No default.
	Names oci.Names
	// Listen is the addresses, as host:port, on which the server will listen: clients may use them as Host. An
	// unspecified address (0.0.0.0, [::] or none) lets them use any IP address.
	Listen []string
	// Hosts is further names, without port, that clients may use as Host beside localhost and loopback addresses. Any
	// other name is refused, so that no web page can reach the door by rebinding its own name to this machine.
	Hosts []string

	// FirstByteTimeout is the longest time until the status of an answer is sent. Default 9 s, which keeps it
	// below 10 s on the wire: dockerd waits 15 s and containerd 30 s.
	FirstByteTimeout time.Duration
	// StallTimeout is how long a body that has begun may get no further before its connection is closed. Default 30 s.
	StallTimeout time.Duration
	// ClientTimeout is how long a client may take no byte before its connection is closed. Default 1 min.
	ClientTimeout time.Duration
	// ReadHeaderTimeout is how long a client may take to send a request. Default 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is how long a connection is kept between requests. Default 2 min.
	IdleTimeout time.Duration
	// CommitTimeout is how long a push may take to be kept on all its nodes once it was sent. Default 1 h: nodes that stand
	// still are given up long before, and a large blob takes its time on a slow link.
	CommitTimeout time.Duration
	// SlowestUpload is how many bytes a minute a client must send: one that sends less for three minutes on end is cut
	// off, and can go on later. Default 1 MiB; 0: no floor.
	SlowestUpload int64
	// MaxHeaderBytes bounds a request's header. Default 64 KiB.
	MaxHeaderBytes int
	// MaxConnections bounds the connections open at once, those to loopback addresses apart from all others; one more is
	// closed at once, not queued. Beyond loopback 256 of them at most are from one address, or one network of 64 bits of
	// IPv6. Default 4096.
	MaxConnections int

	// Access decides about hosted repositories. Default nil: everybody may do everything with them.
	Access Access
	// BaseChallenge is the Bearer challenge that is sent to who asks /v2/ without credentials, by any name but the farm's
	// own; "" sends none. Clients then ask the token service that it names, also for content of the upstream that it is
	// of. Default nil: none.
	BaseChallenge func() string
	// TLS is what connections beyond loopback are encrypted by, see Listener. Default nil: not at all.
	TLS *tls.Config
}

// Default is the configuration of a mirror of Docker Hub alone.
func Default() Config {
	return Config{
		Names:             oci.Names{Default: oci.DockerHub, Upstreams: []string{oci.DockerHub}},
		FirstByteTimeout:  9 * time.Second,
		StallTimeout:      30 * time.Second,
		ClientTimeout:     time.Minute,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		CommitTimeout:     time.Hour,
		SlowestUpload:     1 << 20,
		MaxHeaderBytes:    64 << 10,
		MaxConnections:    4096,
	}
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var problems []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"first byte timeout", c.FirstByteTimeout},
		{"stall timeout", c.StallTimeout},
		{"client timeout", c.ClientTimeout},
		{"read header timeout", c.ReadHeaderTimeout},
		{"idle timeout", c.IdleTimeout},
		{"commit timeout", c.CommitTimeout},
	} {
		if d.value <= 0 {
			problems = append(problems, fmt.Errorf("%s is %v, must be above 0", d.name, d.value))
		}
	}
	if c.MaxHeaderBytes < 4096 {
		problems = append(problems, fmt.Errorf("header limit is %d bytes, must be at least 4096", c.MaxHeaderBytes))
	}
	if c.SlowestUpload < 0 {
		problems = append(problems, fmt.Errorf("slowest upload is %d bytes a minute, must not be below 0", c.SlowestUpload))
	}
	if c.MaxConnections < 1 {
		problems = append(problems, fmt.Errorf("connection limit is %d, must be at least 1", c.MaxConnections))
	}
	if c.Names.Default == "" {
		problems = append(problems, errors.New("no default upstream"))
	}
	_, err := newHosts(c.Listen, c.Hosts)
	return errors.Join(append(problems, err)...)
}
