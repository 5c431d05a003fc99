package adminapi

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// maxConnections bounds the connections of one server; one more is closed at once.
const maxConnections = 256

// NewServer makes the server for a door: HTTP/1.1, bounded in headers, times and connections. The caller serves its
// listeners and shuts it down. The handler sets the deadlines of answers itself, since some take long by nature; for the
// same reason there is no ReadTimeout, which would end the request's context.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	var open atomic.Int64
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState: func(conn net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > maxConnections {
					_ = conn.Close()
				}
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
		DisableGeneralOptionsHandler: true,
	}
}
