package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pullonce/pullonce/internal/netfarm"
)

// Where a node listens whose place on port 5000 a wire has taken.
const (
	behindWire       = "127.0.0.1:5001"
	listenBehindWire = "P2PD_REGISTRY_LISTEN=" + behindWire
)

// A wire stands where clients expect the node, notes what they say and what the node answers, and changes nothing.
type wire struct {
	mu   sync.Mutex
	said []exchange
}

// An exchange is a request of a client's and what the node answered.
type exchange struct {
	method, uri string
	secret      string // the Authorization as it came
	status      int
	challenge   string
	bytes       int64 // of the answer's body
}

// wire puts a wire in front of the host's node, which listens at behindWire.
func (w *world) wire(t *testing.T, h *netfarm.Host) *wire {
	t.Helper()
	listener, err := h.Listen(w.ctx, "tcp", "127.0.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	noted := &wire{}
	transport := &http.Transport{DialContext: h.Dial, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", behindWire, r.In.Host
		},
		Transport: transport, FlushInterval: -1,
	}
	server := &http.Server{Handler: noted.noting(proxy)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the wire of %s: %v", h.Name(), err)
		}
		transport.CloseIdleConnections()
	})
	return noted
}

// noting notes each exchange when it has ended, also one that was cut off.
func (w *wire) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		counted := &countingWriter{ResponseWriter: to}
		e := exchange{method: r.Method, uri: r.URL.RequestURI(), secret: strings.Join(r.Header.Values("Authorization"), ", ")}
		defer func() {
			e.status, e.bytes, e.challenge = counted.status, counted.bytes, counted.Header().Get("WWW-Authenticate")
			w.mu.Lock()
			defer w.mu.Unlock()
			w.said = append(w.said, e)
		}()
		next.ServeHTTP(counted, r)
	})
}

// countingWriter counts the bytes of a body and notes its status.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *countingWriter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets the proxy flush.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// take returns what was said since it was last asked.
func (w *wire) take() talk {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// A talk is what clients and a node said to each other.
type talk []exchange

// about is what concerned a repository.
func (t talk) about(repo string) talk {
	var out talk
	for _, e := range t {
		if strings.Contains(e.uri, "/"+repo+"/") {
			out = append(out, e)
		}
	}
	return out
}

// given is how many bytes the node gave away in answers that were no refusals.
func (t talk) given() (bytes int64) {
	for _, e := range t {
		if e.status < http.StatusBadRequest {
			bytes += e.bytes
		}
	}
	return bytes
}

// with is how many requests came with an Authorization of that scheme, of any for "".
func (t talk) with(scheme string) (n int) {
	for _, e := range t {
		if e.secret != "" && strings.HasPrefix(e.secret, scheme) {
			n++
		}
	}
	return n
}

// of is how many requests came in a user's name.
func (t talk) of(user string) (n int) {
	for _, e := range t {
		if strings.HasPrefix(whose(e.secret), tokenOf+user+" ") || whose(e.secret) == passwordOf+user {
			n++
		}
	}
	return n
}

// digests are shortened in what is shown.
var digests = regexp.MustCompile(`(sha256:[0-9a-f]{8})[0-9a-f]{56}`)

// String is a line for each exchange, without secrets.
func (t talk) String() string {
	var text strings.Builder
	for _, e := range t {
		_, _ = fmt.Fprintf(&text, "%s %s [%s] = %d, %d bytes", e.method, digests.ReplaceAllString(e.uri, "$1"), whose(e.secret), e.status, e.bytes)
		if e.challenge != "" {
			_, _ = fmt.Fprintf(&text, ", %s", e.challenge)
		}
		text.WriteString("\n")
	}
	return text.String()
}

// What whose says of Authorizations.
const passwordOf, tokenOf = "the password of ", "a token of "

// whose tells what an Authorization is, and of whom: one of the stand-in's tokens says so itself.
func whose(authorization string) string {
	scheme, secret, _ := strings.Cut(authorization, " ")
	switch scheme {
	case "":
		return "nobody"
	case "Basic":
		raw, _ := base64.StdEncoding.DecodeString(secret)
		user, _, _ := strings.Cut(string(raw), ":")
		return passwordOf + user
	}
	parts := strings.Split(secret, ".")
	if len(parts) != 3 {
		return scheme
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var token struct {
		Sub    string
		Access []struct {
			Name    string
			Actions []string
		}
	}
	_ = json.Unmarshal(raw, &token)
	if token.Sub == "" {
		token.Sub = "nobody"
	}
	var text strings.Builder
	text.WriteString(tokenOf + token.Sub + " for")
	for _, a := range token.Access {
		text.WriteString(" " + strings.Join(a.Actions, ",") + ":" + a.Name)
	}
	return text.String()
}
