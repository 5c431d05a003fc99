package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
)

// The codes of errors.
const (
	codeBadBackup    = "bad_backup"
	codeBadRequest   = "bad_request"
	codeBusy         = "busy"
	codeFailed       = "failed"
	codeForbidden    = "forbidden"
	codeInternal     = "internal"
	codeMethod       = "method_not_allowed"
	codeNoQuorum     = "no_quorum"
	codeNotFound     = "not_found"
	codeNotReady     = "not_ready"
	codeQuorum       = "has_quorum"
	codeTimeout      = "timeout"
	codeTrustMode    = "trust_mode"
	codeUnauthorized = "unauthorized"
	codeUnknown      = "unknown"
	codeWrongHost    = "wrong_host"
)

// An AnswerError is an answer that is an error, on both sides of the wire.
type AnswerError struct {
	Status  int    `json:"-"` // of HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *AnswerError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// errorBody is how an AnswerError travels.
type errorBody struct {
	Error *AnswerError `json:"error"`
}

// answerOf picks status and code: the only place that does for errors that are not the door's own.
func answerOf(err error) *AnswerError {
	if answer, ok := errors.AsType[*AnswerError](err); ok {
		return answer
	}
	switch {
	case errors.Is(err, ErrNoQuorum):
		return &AnswerError{http.StatusServiceUnavailable, codeNoQuorum, clip(err.Error())}
	case errors.Is(err, ErrQuorum):
		return &AnswerError{http.StatusConflict, codeQuorum, clip(err.Error())}
	case errors.Is(err, ErrTrustMode):
		return &AnswerError{http.StatusConflict, codeTrustMode, clip(err.Error())}
	case errors.Is(err, ErrUnknown):
		return &AnswerError{http.StatusNotFound, codeUnknown, clip(err.Error())}
	case errors.Is(err, ErrBadBackup):
		return &AnswerError{http.StatusBadRequest, codeBadBackup, clip(err.Error())}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &AnswerError{http.StatusGatewayTimeout, codeTimeout, "the node did not answer in time"}
	}
	return &AnswerError{http.StatusInternalServerError, codeInternal, "internal error; the node's log says more"}
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is left to tell
	}
	extend(w, writeTimeout)
	answer := answerOf(err)
	if answer.Code == codeInternal {
		h.log.LogAttrs(r.Context(), slog.LevelError, "admin request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	writeJSON(w, answer.Status, errorBody{answer})
}

// writeJSON sends v whole or, when v cannot be encoded, a plain 500.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}
