package registryapi

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A response is an http.ResponseWriter that remembers what was sent. It passes on ReadFrom, so that files still go
// out by sendfile.
type response struct {
	http.ResponseWriter
	start time.Time

	kind    kind
	status  int // 0 until the header is written
	first   time.Duration
	bytes   int64
	sent    prometheus.Counter // counts bytes as they go
	aborted bool               // the body was cut off
	gone    bool               // the client did not take all of the answer
}

// WriteHeader notes the status and the time until it was known.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.first = time.Since(w.start)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.count(int64(n))
	return n, err
}

// ReadFrom lets the server take the bytes of src by its own best way.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(w.ResponseWriter, src) // is w.ResponseWriter.ReadFrom where there is one
	w.count(n)
	return n, err
}

func (w *response) count(n int64) {
	w.bytes += n
	w.sent.Add(float64(n))
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// code is the status for metrics and logs, or what became of the response instead.
func (w *response) code() string {
	switch {
	case w.aborted || w.status == 0 && !w.gone:
		return "aborted"
	case w.gone:
		return "gone"
	}
	switch w.status {
	case http.StatusOK:
		return "200"
	case http.StatusPartialContent:
		return "206"
	case http.StatusNotModified:
		return "304"
	case http.StatusNotFound:
		return "404"
	}
	return strconv.Itoa(w.status)
}
