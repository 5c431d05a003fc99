package adminapi

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pullonce/pullonce/internal/version"
)

// A Config says what the door answers to and how long it waits. A node that serves both a unix socket and HTTP makes a
// Handler for each.
type Config struct {
	// UnixSocket says that the handler serves a unix socket, which no web page can reach: any Host is right.
	UnixSocket bool
	// Socket is the path of the node's unix socket, for those who have to go there; "" is not known.
	Socket string
	// Token has whoever sends it (Authorization: Bearer) change the farm over HTTP; wrong tries are slowed. At least 16
	// bytes. "": the farm is changed over the unix socket alone, which asks for none.
	Token string
	// Profiles serves /debug/pprof. For unix sockets only: a profile costs CPU and shows what the process does.
	Profiles bool
	// Listen is the addresses, as host:port, on which the server will listen: clients may use them as Host. An
	// unspecified address (0.0.0.0, [::] or none) lets them use any IP address.
	Listen []string
	// Hosts is further names, without port, that clients may use as Host beside localhost and loopback addresses.
	Hosts []string
	// Version is the release that /v1/version tells. Default: that of this program.
	Version string
	// AskTimeout is how long members may take to answer when the request does not say. Default 2 s.
	AskTimeout time.Duration
	// MaxAskTimeout is the longest that a request may say. Default 30 s.
	MaxAskTimeout time.Duration
}

// Default is the configuration for loopback HTTP without an address of its own.
func Default() Config {
	return Config{Version: version.String(), AskTimeout: 2 * time.Second, MaxAskTimeout: 30 * time.Second}
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var problems []error
	if c.Profiles && !c.UnixSocket {
		problems = append(problems, errors.New("profiles are for the unix socket only"))
	}
	if c.Token != "" && (len(c.Token) < minTokenBytes || strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' })) {
		problems = append(problems, fmt.Errorf("admin token: want at least %d bytes of visible ASCII", minTokenBytes))
	}
	for _, address := range c.Listen {
		if _, _, err := net.SplitHostPort(address); err != nil {
			problems = append(problems, fmt.Errorf("listen address %q: %w", address, err))
		}
	}
	for _, name := range c.Hosts {
		if name == "" || strings.ContainsAny(name, ":/ ") {
			problems = append(problems, fmt.Errorf("host name %q must have no port, path or space", name))
		}
	}
	if c.AskTimeout <= 0 || c.MaxAskTimeout < c.AskTimeout {
		problems = append(problems, fmt.Errorf("ask timeout is %v and the longest %v: must be above 0, and not below it",
			c.AskTimeout, c.MaxAskTimeout))
	}
	return errors.Join(problems...)
}
