package hub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// endpointName is one of the three hosts that Docker Hub consists of for a client.
type endpointName int

const (
	registryEnd endpointName = iota
	authEnd
	cdnEnd
	endpoints = 3
)

func (n endpointName) String() string { return [endpoints]string{"registry", "auth", "cdn"}[n] }

// endpoint is a listener, its server and its open connections.
type endpoint struct {
	hub    *Hub
	name   endpointName
	roles  [endpoints]bool
	addr   net.Addr
	given  bool // the caller's listener: it cannot be opened again
	server *http.Server
	wg     sync.WaitGroup // the serving goroutine and one count for each connection

	mu     sync.Mutex
	ln     net.Listener // nil while the port is closed
	held   *placeholder // the port meanwhile
	conns  map[*conn]struct{}
	closed bool
}

func (h *Hub) newEndpoint(name endpointName, given net.Listener, address string) (*endpoint, error) {
	e := &endpoint{hub: h, name: name, given: given != nil, ln: given, conns: map[*conn]struct{}{}}
	e.roles[name] = true
	if given == nil {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen for the %s: %w", name, err)
		}
		e.ln = ln
	}
	e.addr = e.ln.Addr()
	e.server = &http.Server{
		Handler:           http.HandlerFunc(e.serveHTTP),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState:         e.connState,
	}
	if h.cfg.TLS != nil {
		e.server.TLSConfig = h.cfg.TLS.Clone()
	}
	return e, nil
}

// start serves ln until it is closed.
func (e *endpoint) start(ln net.Listener) {
	e.wg.Add(1)
	counted := &listener{Listener: ln, end: e}
	go func() {
		defer e.wg.Done()
		if e.hub.cfg.TLS != nil {
			_ = e.server.ServeTLS(counted, "", "")
			return
		}
		_ = e.server.Serve(counted)
	}()
}

// connState lets close wait for the goroutines of all connections.
func (e *endpoint) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		e.wg.Add(1)
	case http.StateClosed, http.StateHijacked:
		e.wg.Done()
	}
}

// resetAll drops the open connections without a goodbye.
func (e *endpoint) resetAll() {
	e.mu.Lock()
	open := make([]*conn, 0, len(e.conns))
	for c := range e.conns {
		open = append(open, c)
	}
	e.mu.Unlock()
	for _, c := range open {
		reset(c.Conn)
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// shut closes the port; reopen opens it again.
func (e *endpoint) shut() {
	e.mu.Lock()
	ln := e.ln
	e.ln = nil
	e.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
	e.resetAll()
	if ln == nil {
		return
	}
	held := hold(e.addr)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.ln != nil {
		held.release()
		return
	}
	e.held = held
}

func (e *endpoint) reopen() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ln != nil || e.closed {
		return nil
	}
	e.held.release()
	e.held = nil
	ln, err := net.Listen("tcp", e.addr.String())
	if err != nil {
		return fmt.Errorf("open the %s again: %w", e.name, err)
	}
	e.ln = ln
	e.start(ln)
	return nil
}

// close ends everything and waits for it.
func (e *endpoint) close() {
	e.mu.Lock()
	e.closed = true
	e.held.release()
	ln := e.ln
	e.ln = nil
	e.mu.Unlock()
	_ = e.server.Close()
	if ln != nil {
		_ = ln.Close()
	}
	e.wg.Wait()
}

// scheme is that of the endpoint's URLs.
func (e *endpoint) scheme() string {
	if e.hub.cfg.TLS != nil {
		return "https"
	}
	return "http"
}

// listener counts connections and applies the faults that meet connections.
type listener struct {
	net.Listener
	end *endpoint
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.end.hub.isDown(l.end) {
			reset(c)
			continue
		}
		l.end.hub.stats.connections.Add(1)
		counted := &conn{Conn: c, end: l.end}
		l.end.mu.Lock()
		l.end.conns[counted] = struct{}{}
		l.end.mu.Unlock()
		return counted, nil
	}
}

// conn counts what goes over a socket, before it goes (what did not go is taken off again), so that
// a client that has read a response finds it counted. It keeps the way for sendfile open: the server
// finds ReadFrom, and ReadFrom hands the file to the TCP connection itself.
type conn struct {
	net.Conn
	end *endpoint
}

var _ io.ReaderFrom = (*conn)(nil)

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.end.hub.stats.read.Add(int64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	written := &c.end.hub.stats.written[c.end.name]
	written.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	written.Add(int64(n - len(p)))
	return n, err
}

func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	var expected int64
	if limited, ok := src.(*io.LimitedReader); ok && limited.N <= unshaped {
		expected = limited.N
	}
	written := &c.end.hub.stats.written[c.end.name]
	written.Add(expected)
	n, err := io.Copy(c.Conn, src)
	written.Add(n - expected)
	return n, err
}

// CloseWrite sends the end of the stream; the server uses it to say goodbye.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *conn) Close() error {
	c.end.mu.Lock()
	delete(c.end.conns, c)
	c.end.mu.Unlock()
	return c.Conn.Close()
}
