package registryapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/pullonce/pullonce/oci"
)

// A Handler answers the requests of container engines. Make one with New.
type Handler struct {
	cfg      Config
	registry Registry
	hosting  Hosting // nil: a mirror only
	turns    turns   // with uploads
	hosts    hosts
	metrics  *metrics
	log      *slog.Logger
	unknown  *rate.Limiter // of the warnings about upstreams that there are not
}

// New makes the door to registry. Its metrics are registered with reg, unless that is nil. The error is that of
// Config.Validate or of the registration.
func New(cfg Config, registry Registry, log *slog.Logger, reg prometheus.Registerer) (*Handler, error) {
	return NewHosting(cfg, registry, nil, log, reg)
}

// NewHosting is New for a farm that keeps content of its own: names under hosting's prefix can be pushed, and are listed
// by it. With a nil hosting nothing can be pushed.
func NewHosting(cfg Config, registry Registry, hosting Hosting, log *slog.Logger, reg prometheus.Registerer) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry door: %w", err)
	}
	if hosting != nil && hosting.Prefix() != cfg.Names.HostedPrefix {
		return nil, fmt.Errorf("registry door: hosted prefix is %q in names and %q in what keeps them",
			cfg.Names.HostedPrefix, hosting.Prefix())
	}
	hosts, err := newHosts(cfg.Listen, cfg.Hosts)
	if err != nil {
		return nil, err
	}
	if hosting != nil {
		hosts.names[strings.ToLower(hosting.Prefix())] = true
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register metrics of the registry door: %w", err)
	}
	return &Handler{
		cfg: cfg, registry: registry, hosting: hosting, hosts: hosts, metrics: m, log: log,
		unknown: rate.NewLimiter(rate.Every(time.Minute), 1),
	}, nil
}

// ServeHTTP answers one request. It must get the request's path as the client wrote it, not by way of a mux that
// cleans paths.
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &response{ResponseWriter: rw, start: time.Now(), sent: h.metrics.sent[kindOther]}
	h.metrics.inFlight.Inc()
	defer h.observe(w, r)
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
		linger(w, r)
	}
}

var apiVersion = []string{"registry/2.0"}

// serve answers r, or returns an error when nothing of an answer was sent yet.
func (h *Handler) serve(w *response, r *http.Request) error {
	pull := r.Method == http.MethodGet || r.Method == http.MethodHead
	if pull || h.hosting == nil {
		h.refuseBody(w, r)
	}
	if !h.hosts.allow(r.Host) {
		return &failure{
			status: http.StatusMisdirectedRequest, code: codeDenied,
			message: "this registry does not answer to that host name",
		}
	}
	r, err := h.withCaller(r)
	if err != nil {
		h.refuseBody(w, r)
		return err
	}
	if !pull && h.hosting != nil {
		return h.push(w, r)
	}
	if !pull {
		w.Header().Set("Allow", "GET, HEAD")
		return &failure{
			status: http.StatusMethodNotAllowed, code: codeUnsupported,
			message: "this registry is a mirror that can only be pulled from",
		}
	}
	q, err := parseRequest(r.URL, h.names(r))
	w.kind, w.sent = q.kind, h.metrics.sent[q.kind]
	if err != nil {
		return h.absent(q, err)
	}
	if q.repo.Upstream != "" {
		w.Header().Set("OCI-Namespace", q.repo.Upstream)
	}
	if err := h.mayRead(r, q); err != nil {
		return err
	}
	switch {
	case h.hosted(q) && q.kind == kindReferrers:
		return h.hostedReferrers(w, r, q)
	case h.hosting != nil && q.kind == kindUpload:
		return h.uploadStatus(w, r, q)
	case h.hosting != nil && q.kind == kindCatalog:
		return h.catalog(w, r, q)
	}
	switch q.kind {
	case kindBase:
		return h.base(w, r)
	case kindManifest:
		return h.manifest(w, r, q)
	case kindBlob:
		return h.blob(w, r, q)
	case kindTags:
		return h.tags(w, r, q)
	case kindReferrers:
		return h.referrers(w, r, q)
	default: // _catalog of a mirror among them: it has no list of all that its upstreams have
		return &failure{status: http.StatusNotFound, code: codeUnsupported, message: "no such endpoint"}
	}
}

// hosted tells whether q is about a repository of the farm itself.
func (h *Handler) hosted(q request) bool {
	return h.hosting != nil && q.repo.Upstream == h.hosting.Prefix()
}

// absent is the answer to a request that could not be parsed because of err. What a hosted repository cannot have, since
// no manifest can be pushed by such a tag, is not found in it: the specification has no other answer for that.
func (h *Handler) absent(q request, err error) error {
	if h.hosted(q) && errors.Is(err, oci.ErrTagInvalid) {
		return notFound(q.kind)
	}
	return err
}

// refuseBody sees to it that a request body, which no pull has, is neither waited for nor read for long.
func (h *Handler) refuseBody(w *response, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	// A server that cannot set deadlines is a test's recorder.
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(h.cfg.ReadHeaderTimeout))
}

// maxLinger bounds what is read of a refused body after the answer.
const maxLinger = 16 << 20

// linger reads on after the answer to a request whose body was refused, within the time that refuseBody gives it. Many
// clients send all of a body before they look for an answer, and a connection that is closed while they send takes the
// answer along.
func linger(w *response, r *http.Request) {
	if w.Header().Get("Connection") != "close" || r.Header.Get("Expect") != "" {
		return
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	_, _ = io.CopyN(io.Discard, r.Body, maxLinger)
}

// base answers the check by which clients find out that this is a registry.
func (h *Handler) base(w *response, r *http.Request) error {
	if err := h.login(r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	_, _ = w.Write([]byte("{}"))
	return nil
}

// limited bounds a call whose result is needed before the answer can begin.
func (h *Handler) limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), h.cfg.FirstByteTimeout, errNoFirstByte)
}

// fail answers with an error.
func (h *Handler) fail(w *response, r *http.Request, err error) {
	w.gone = r.Context().Err() != nil
	f := failureOf(err, w.kind).at(w.Header().Get("OCI-Namespace")).forClient(r.UserAgent())
	level := slog.LevelDebug
	if f.status >= http.StatusInternalServerError && !w.gone {
		level = slog.LevelWarn
	}
	if f.unknown != "" && h.unknown.Allow() {
		h.log.LogAttrs(r.Context(), slog.LevelWarn, "upstream is not configured", slog.String("upstream", f.unknown),
			slog.String("change", "upstreams"))
	}
	h.log.LogAttrs(r.Context(), level, "request failed", slog.String("method", r.Method),
		slog.String("path", r.URL.Path), slog.Int("status", f.status), slog.Any("error", err))
	if challenge := h.challengeFor(r, f.challenge); challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	f.write(w)
}

// observe counts a request that has ended, by whatever way.
func (h *Handler) observe(w *response, r *http.Request) {
	h.metrics.inFlight.Dec()
	h.metrics.ended(w)
	if h.log.Enabled(r.Context(), slog.LevelDebug) {
		h.log.LogAttrs(r.Context(), slog.LevelDebug, "request served", slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.String("code", w.code()), slog.Int64("bytes", w.bytes),
			slog.Duration("took", time.Since(w.start)), slog.String("client", r.RemoteAddr))
	}
}

// immutable marks what is named by its digest.
func immutable(header http.Header, d oci.Digest, etag string) {
	header.Set("Docker-Content-Digest", d.String())
	header.Set("Etag", etag)
	header["Cache-Control"] = cacheForever
}

var (
	cacheForever = []string{"max-age=31536000, immutable"}
	staleWarning = []string{`299 - "the upstream did not answer; this is the last answer that it gave"`}
)

func etagOf(d oci.Digest) string { return `"` + d.String() + `"` }
