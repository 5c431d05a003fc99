package adminapi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/pullonce/pullonce/internal/version"
)

const (
	// maxCollections bounds the rounds of questions at once; more wait for their turn.
	maxCollections = 4
	// maxBackups bounds the backups at once.
	maxBackups = 2
	// writeTimeout is how long a client may take for an answer beyond the time that the answer took to make.
	writeTimeout = 30 * time.Second
	// profileTimeout is how long a profile may take.
	profileTimeout = 10 * time.Minute
	// minAskTimeout is the shortest that a request may say.
	minAskTimeout = 10 * time.Millisecond
)

// A Handler answers the requests of operators. Make one with New.
type Handler struct {
	cfg         Config
	farm        Farm
	guard       guard
	log         *slog.Logger
	routes      map[string]endpoint
	profiles    http.Handler
	collections chan struct{}
	backups     chan struct{}
	operations  chan struct{}
	steering    chan struct{}
	tries       *tries // nil without a token
}

// An endpoint is what answers one path. The zero values are for what can only be read, by GET and HEAD.
type endpoint struct {
	post   bool // it changes the farm: by POST alone
	body   bool // it takes a body
	secret bool // what it tells is for those who may change the farm
	answer route
	change route // what answers a POST, when answer is for what can be read
}

// A route answers, or returns an error when nothing of an answer was sent yet.
type route func(w http.ResponseWriter, r *http.Request) error

// New makes the door to farm, with the endpoints for the catalog when farm is a Catalog too. metrics answers /metrics;
// with nil there is none. cfg must be valid.
func New(cfg Config, farm Farm, metrics http.Handler, log *slog.Logger) *Handler {
	h := &Handler{
		cfg: cfg, farm: farm, guard: newGuard(cfg), log: log, collections: make(chan struct{}, maxCollections),
		backups: make(chan struct{}, maxBackups), operations: make(chan struct{}, 1),
		steering: make(chan struct{}, maxSteering),
	}
	if cfg.Token != "" && !cfg.UnixSocket {
		h.tries = newTries(cfg.Token)
	}
	h.routes = map[string]endpoint{
		"/livez":      {answer: h.live},
		"/readyz":     {answer: h.ready},
		"/v1/status":  {answer: h.status},
		"/v1/node":    {answer: h.node},
		"/v1/members": {answer: h.members},
		"/v1/version": {answer: h.version},
	}
	if catalog, ok := farm.(Catalog); ok {
		maps.Copy(h.routes, h.catalogRoutes(catalog))
	}
	if trust, ok := farm.(Trust); ok {
		maps.Copy(h.routes, h.trustRoutes(trust))
	}
	if metrics != nil {
		h.routes["/metrics"] = endpoint{answer: func(w http.ResponseWriter, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}}
	}
	if cfg.Profiles && cfg.UnixSocket {
		h.profiles = profiles()
	}
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	if !h.guard.allowHost(r.Host) {
		return &AnswerError{http.StatusMisdirectedRequest, codeWrongHost, "this node does not answer to that host name"}
	}
	if foreign(r) {
		return &AnswerError{http.StatusForbidden, codeForbidden, "web pages of other origins are not answered"}
	}
	if h.profiles != nil && strings.HasPrefix(r.URL.Path, profilesPath) {
		extend(w, profileTimeout)
		h.profiles.ServeHTTP(w, r)
		return nil
	}
	e, ok := h.routes[r.URL.Path]
	if !ok {
		return &AnswerError{http.StatusNotFound, codeNotFound, "no such endpoint"}
	}
	if e.change != nil && r.Method == http.MethodPost {
		e.post, e.answer = true, e.change
	}
	if err := h.admit(e, w, r); err != nil {
		if r.ContentLength != 0 {
			refuseBody(w)
		}
		return err
	}
	extend(w, writeTimeout)
	return e.answer(w, r)
}

// admit refuses requests that are none for that endpoint.
func (h *Handler) admit(e endpoint, w http.ResponseWriter, r *http.Request) error {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	guarded := (e.post || e.secret) && !h.cfg.UnixSocket
	switch {
	case !e.post && !reads:
		w.Header().Set("Allow", allowed(e))
		return &AnswerError{http.StatusMethodNotAllowed, codeMethod, "this endpoint can only be read"}
	case e.post && r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		return &AnswerError{http.StatusMethodNotAllowed, codeMethod, "this endpoint takes POST"}
	case guarded && h.tries == nil:
		return &AnswerError{http.StatusForbidden, codeForbidden, h.socketOnly(e)}
	case !e.body && r.ContentLength != 0:
		return &AnswerError{http.StatusBadRequest, codeBadRequest, "a request here has no body"}
	case guarded:
		return h.tries.admit(w, r)
	}
	return nil
}

func allowed(e endpoint) string {
	if e.change != nil {
		return "GET, HEAD, POST"
	}
	return "GET, HEAD"
}

// socketOnly says where the farm can be changed, and its secrets be read: whoever may open the socket's file may do it.
func (h *Handler) socketOnly(e endpoint) string {
	what := "the farm is changed"
	if e.secret {
		what = "what holds the farm's secrets is given"
	}
	if h.cfg.Socket == "" {
		return what + " over the node's unix socket only (admin.socket in its configuration)"
	}
	return fmt.Sprintf("%s over the node's unix socket only: %s", what, h.cfg.Socket)
}

// refuseBody keeps the server from waiting for a body that nobody reads.
func refuseBody(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
}

// extend gives the answer that long from now, where the connection knows deadlines.
func extend(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

func (h *Handler) live(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "live"})
	return nil
}

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := h.farm.Ready(); err != nil {
		return &AnswerError{http.StatusServiceUnavailable, codeNotReady, err.Error()}
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}

func (h *Handler) status(w http.ResponseWriter, r *http.Request) error {
	timeout, err := h.askTimeout(r)
	if err != nil {
		return err
	}
	turn, cancel := context.WithTimeout(r.Context(), timeout+h.cfg.AskTimeout)
	defer cancel()
	select {
	case h.collections <- struct{}{}:
		defer func() { <-h.collections }()
	case <-turn.Done():
		return &AnswerError{http.StatusServiceUnavailable, codeBusy, "too many requests for the farm's status at once"}
	}
	s, err := Collect(r.Context(), h.farm, timeout)
	if err != nil {
		return err
	}
	extend(w, writeTimeout)
	writeJSON(w, http.StatusOK, s)
	return nil
}

// askTimeout is what the request says about how long members may take.
func (h *Handler) askTimeout(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("timeout")
	if text == "" {
		return h.cfg.AskTimeout, nil
	}
	timeout, err := time.ParseDuration(text)
	if err != nil || timeout < minAskTimeout || timeout > h.cfg.MaxAskTimeout {
		return 0, &AnswerError{
			http.StatusBadRequest, codeBadRequest,
			fmt.Sprintf("timeout must be a duration from %v to %v", minAskTimeout, h.cfg.MaxAskTimeout),
		}
	}
	return timeout, nil
}

func (h *Handler) node(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AskTimeout)
	defer cancel()
	n, err := h.farm.Node(ctx)
	if err != nil {
		return fmt.Errorf("this node's view: %w", err)
	}
	writeJSON(w, http.StatusOK, Self{SchemaVersion, n.finished()})
	return nil
}

func (h *Handler) members(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AskTimeout)
	defer cancel()
	n, err := h.farm.Node(ctx)
	if err != nil {
		return fmt.Errorf("this node's view: %w", err)
	}
	members, err := sortedMembers(ctx, h.farm)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, MemberList{SchemaVersion, n.Farm, n.ID, members})
	return nil
}

func (h *Handler) version(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, VersionOf(h.cfg.Version))
	return nil
}

// VersionOf describes this program, being of that release.
func VersionOf(release string) Version {
	return Version{SchemaVersion, release, version.Protocol, runtime.Version()}
}
