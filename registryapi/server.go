package registryapi

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/pullonce/pullonce/access"
)

// NewServer makes the server for a door: HTTP/1.1 with keep-alive, bounded in headers, times and connections. The
// caller serves its listeners, each as Listener gives it, and shuts it down: plain TCP connections, by which files go out
// by sendfile, or TLS, whose handshake has ReadHeaderTimeout. A connection beyond the limit is closed at once, since a client that is made to wait does not fall back.
func NewServer(cfg Config, handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		// For all but blobs, which extend it as they get on. No ReadTimeout: it would end long bodies.
		WriteTimeout:                 cfg.FirstByteTimeout + cfg.ClientTimeout,
		IdleTimeout:                  cfg.IdleTimeout,
		MaxHeaderBytes:               cfg.MaxHeaderBytes,
		ErrorLog:                     errorLog(log),
		ConnState:                    limitConnections(cfg.MaxConnections),
		DisableGeneralOptionsHandler: true,
	}
}

// maxOfOne bounds the connections from one address beyond loopback.
const maxOfOne = 256

// limitConnections counts by the server's own hook: a limiting listener would wrap the connections and lose sendfile.
func limitConnections(limit int) func(net.Conn, http.ConnState) {
	c := &connections{limit: limit, of: make(map[netip.Addr]int)}
	return func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if !c.open(conn) {
				_ = conn.Close()
			}
		case http.StateClosed, http.StateHijacked:
			c.closed(conn)
		}
	}
}

// connections are those that are open, with those that were closed for being too many until the server knows. Those to
// loopback addresses are counted apart, so that nobody from elsewhere shuts the host's own engine out.
type connections struct {
	limit int

	mu        sync.Mutex
	loopback  int
	elsewhere int
	of        map[netip.Addr]int // elsewhere, by where they come from
}

// open counts a connection; false when it is one too many.
func (c *connections) open(conn net.Conn) bool {
	here, from := OnLoopback(conn.LocalAddr()), networkOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if here {
		c.loopback++
		return c.loopback <= c.limit
	}
	c.elsewhere++
	if !from.IsValid() {
		return c.elsewhere <= c.limit
	}
	c.of[from]++
	return c.elsewhere <= c.limit && c.of[from] <= maxOfOne
}

func (c *connections) closed(conn net.Conn) {
	here, from := OnLoopback(conn.LocalAddr()), networkOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if here {
		c.loopback--
		return
	}
	c.elsewhere--
	if !from.IsValid() {
		return
	}
	if c.of[from]--; c.of[from] == 0 {
		delete(c.of, from)
	}
}

// networkOf is where a connection comes from, for counting; the zero Addr when that is no address of TCP.
func networkOf(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return access.Network(tcp.AddrPort().Addr())
}
