package registryapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// push answers what changes something. It is for hosted repositories alone: no push can shadow an upstream's image.
func (h *Handler) push(w *response, r *http.Request) error {
	b := h.body(w, r)
	if !b.ended { // for a body that nobody reads; a Read sets its own
		_ = b.control.SetReadDeadline(time.Now().Add(h.cfg.ReadHeaderTimeout))
	}
	err := h.pushed(w, r, b)
	if err == nil {
		return nil
	}
	if !b.ended {
		h.refuseBody(w, r)
	}
	h.extendAnswer(w)
	return pushFailure(err)
}

// pushed answers a push, or returns an error when nothing of an answer was sent yet.
func (h *Handler) pushed(w *response, r *http.Request, b *body) error {
	q, p, err := parsePush(r.URL, h.names(r))
	w.kind, w.sent = q.kind, h.metrics.sent[q.kind]
	if f, ok := errors.AsType[*failure](err); ok && f.unknown != "" {
		return h.notHosted()
	}
	if err != nil && r.Method == http.MethodDelete {
		return h.absent(q, err)
	}
	if err != nil {
		return err
	}
	if q.kind == kindOther || q.kind == kindBase {
		return &failure{status: http.StatusNotFound, code: codeUnsupported, message: "no such endpoint"}
	}
	answer := h.pushHandler(r.Method, q)
	if answer == nil {
		w.Header().Set("Allow", allowed(q))
		return &failure{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "not a method of this endpoint"}
	}
	if !h.hosted(q) {
		return h.notHosted()
	}
	if err := crossOrigin.Check(r); err != nil {
		return &failure{status: http.StatusForbidden, code: codeDenied, message: "web pages of other sites may not push"}
	}
	w.Header().Set("OCI-Namespace", q.repo.Upstream)
	if err := h.mayPush(r, q); err != nil {
		return err
	}
	return answer(w, r, push{request: q, pushQuery: p, body: b})
}

// crossOrigin tells the requests of web pages from those of clients: a page can send a POST to any address of its
// visitor's machine.
var crossOrigin = http.NewCrossOriginProtection()

// A push is a request that changes something, parsed.
type push struct {
	request
	pushQuery
	body *body
}

type pushHandler func(w *response, r *http.Request, p push) error

// pushHandler is what answers a method of an endpoint, or nil.
func (h *Handler) pushHandler(method string, q request) pushHandler {
	started := q.id != ""
	switch {
	case q.kind == kindUpload && method == http.MethodPost && !started:
		return h.startUpload
	case q.kind == kindUpload && method == http.MethodPatch && started:
		return h.appendUpload
	case q.kind == kindUpload && method == http.MethodPut && started:
		return h.finishUpload
	case q.kind == kindUpload && method == http.MethodDelete && started:
		return h.cancelUpload
	case q.kind == kindManifest && method == http.MethodPut:
		return h.putManifest
	case q.kind == kindManifest && method == http.MethodDelete:
		return h.deleteManifest
	case q.kind == kindBlob && method == http.MethodDelete:
		return h.deleteBlob
	}
	return nil
}

// allowed are the methods of an endpoint.
func allowed(q request) string {
	switch {
	case q.kind == kindUpload && q.id == "":
		return "POST"
	case q.kind == kindUpload:
		return "GET, HEAD, PATCH, PUT, DELETE"
	case q.kind == kindManifest:
		return "GET, HEAD, PUT, DELETE"
	case q.kind == kindBlob:
		return "GET, HEAD, DELETE"
	}
	return "GET, HEAD"
}

func (h *Handler) notHosted() error {
	return &failure{
		status: http.StatusForbidden, code: codeDenied,
		message: "only names under " + h.hosting.Prefix() + "/ can be pushed to this registry",
	}
}

// committing bounds a call that makes something durable, on several nodes as it may be.
func (h *Handler) committing(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), h.cfg.CommitTimeout, errNoCommit)
}

// extendAnswer gives an answer its time, which the server counts from the request's header.
func (h *Handler) extendAnswer(w *response) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(h.cfg.ClientTimeout))
}

// answer sends a status without a body.
func (h *Handler) answer(w *response, status int, location string) error {
	h.extendAnswer(w)
	if location != "" {
		w.Header().Set("Location", location)
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

// location is the path of something in the repository of a request, by the name that its client uses.
func (q request) location(suffix string) string {
	path := "/v2/" + q.name + suffix
	if q.query.ns != "" {
		path += "?ns=" + q.query.ns
	}
	return path
}

// deleteManifest answers DELETE of a manifest or a tag.
func (h *Handler) deleteManifest(w *response, r *http.Request, p push) error {
	ctx, cancel := h.committing(r)
	defer cancel()
	var err error
	if p.ref.Tag != "" {
		err = h.hosting.DeleteTag(ctx, p.repo, p.ref.Tag)
	} else {
		err = h.hosting.DeleteManifest(ctx, p.repo, p.ref.Digest)
	}
	if err != nil {
		return because(ctx, err)
	}
	return h.answer(w, http.StatusAccepted, "")
}

// deleteBlob answers DELETE of a blob: its repository has it no more.
func (h *Handler) deleteBlob(w *response, r *http.Request, p push) error {
	ctx, cancel := h.committing(r)
	defer cancel()
	if err := h.hosting.DeleteBlob(ctx, p.repo, p.d); err != nil {
		return because(ctx, err)
	}
	return h.answer(w, http.StatusAccepted, "")
}

// blobCreated answers that a repository has a blob now.
func (h *Handler) blobCreated(w *response, q request, d oci.Digest) error {
	w.Header().Set("Docker-Content-Digest", d.String())
	return h.answer(w, http.StatusCreated, q.location("/blobs/"+d.String()))
}

func rangeSoFar(offset int64) string { return "0-" + strconv.FormatInt(max(0, offset-1), 10) }
