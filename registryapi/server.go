package registryapi

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
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

// limitConnections counts by the server's own hook: a limiting listener would wrap the connections and lose sendfile.
func limitConnections(limit int) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > int64(limit) {
				_ = conn.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}
