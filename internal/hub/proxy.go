package hub

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// proxy is a backend that is another registry. It passes bytes on unchanged.
type proxy struct {
	httputil.ReverseProxy
	transport *http.Transport
}

func newProxy(backend string) *proxy {
	target, err := url.Parse(backend)
	if err != nil {
		panic("backend URL: " + err.Error()) // Validate has parsed it
	}
	p := &proxy{transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true, ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10,
	}}
	p.ReverseProxy = httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			r.Out.Header.Del("Authorization")
		},
		Transport:  p.transport,
		BufferPool: &buffers{pool: sync.Pool{New: func() any { return make([]byte, 256<<10) }}},
		ErrorLog:   log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			// The front says these itself.
			r.Header.Del("Docker-Distribution-Api-Version")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, http.StatusBadGateway, "UNAVAILABLE", err.Error())
		},
	}
	return p
}

func (p *proxy) close() { p.transport.CloseIdleConnections() }

// buffers is where the reverse proxy takes its copy buffers from.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().([]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(p) } //nolint:staticcheck // one small allocation for 256 KiB
