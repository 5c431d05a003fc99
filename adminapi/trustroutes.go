package adminapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxSteering bounds the changes of the farm's trust at once. They do not wait for other operations: a node that was
// stolen is shut out while a collection runs.
const maxSteering = 16

const (
	trustPath       = "/v1/trust"
	caPath          = "/v1/trust/ca"
	tokensPath      = "/v1/trust/tokens"
	dropTokenPath   = "/v1/trust/tokens/revoke"
	revokeNodePath  = "/v1/trust/nodes/revoke"
	readmitNodePath = "/v1/trust/nodes/readmit"
	rotateKeyPath   = "/v1/trust/key/rotate"
)

// trustRoutes are the endpoints for trust.
func (h *Handler) trustRoutes(t Trust) map[string]endpoint {
	sendTrust := func(ctx context.Context, w http.ResponseWriter) error { return h.sendTrust(ctx, w, t) }
	sendTokens := func(ctx context.Context, w http.ResponseWriter) error { return sendTokens(ctx, w, t) }
	return map[string]endpoint{
		trustPath:       {answer: h.asked(sendTrust)},
		caPath:          {answer: h.asked(func(ctx context.Context, w http.ResponseWriter) error { return sendCA(ctx, w, t) })},
		tokensPath:      {answer: h.asked(sendTokens), change: h.createToken(t)},
		dropTokenPath:   {post: true, answer: h.steer(tokenID, t.DropToken, sendTokens)},
		revokeNodePath:  {post: true, answer: h.steer(nodeID, t.RevokeNode, sendTrust)},
		readmitNodePath: {post: true, answer: h.steer(nodeID, t.ReadmitNode, sendTrust)},
		rotateKeyPath: {post: true, answer: h.steer(noID, func(ctx context.Context, _ string) error {
			return t.RotateKey(ctx)
		}, sendTrust)},
	}
}

// asked answers with what send sends, within AskTimeout.
func (h *Handler) asked(send func(context.Context, http.ResponseWriter) error) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AskTimeout)
		defer cancel()
		return send(ctx, w)
	}
}

func (h *Handler) sendTrust(ctx context.Context, w http.ResponseWriter, t Trust) error {
	part, err := t.TrustStatus(ctx)
	if err != nil {
		return fmt.Errorf("status of trust: %w", err)
	}
	n, err := h.farm.Node(ctx)
	if err != nil {
		return fmt.Errorf("this node's view: %w", err)
	}
	extend(w, writeTimeout)
	writeJSON(w, http.StatusOK, TrustStatus{SchemaVersion, n.ID, part.finished()})
	return nil
}

func sendCA(ctx context.Context, w http.ResponseWriter, t Trust) error {
	pem, err := t.FarmCA(ctx)
	if err != nil {
		return fmt.Errorf("certificates of the farm's CA: %w", err)
	}
	extend(w, writeTimeout)
	writeJSON(w, http.StatusOK, FarmCA{SchemaVersion, pem})
	return nil
}

func sendTokens(ctx context.Context, w http.ResponseWriter, t Trust) error {
	tokens, err := t.Tokens(ctx)
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	extend(w, writeTimeout)
	writeJSON(w, http.StatusOK, TokenList{SchemaVersion, append([]TokenInfo{}, tokens...)})
	return nil
}

// createToken answers with a new token, whose secret is in this answer and nowhere else.
func (h *Handler) createToken(t Trust) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		ttl, uses, err := tokenBounds(r)
		if err != nil {
			return err
		}
		return h.steered(r, func(ctx context.Context) error {
			token, err := t.CreateToken(ctx, ttl, uses)
			if err != nil {
				return err
			}
			token.SchemaVersion = SchemaVersion
			extend(w, writeTimeout)
			writeJSON(w, http.StatusOK, token)
			return nil
		})
	}
}

func tokenBounds(r *http.Request) (ttl time.Duration, uses int, err error) {
	ttl, uses = defaultTokenTTL, 1
	if text := r.URL.Query().Get("ttl"); text != "" {
		if ttl, err = time.ParseDuration(text); err != nil || ttl < minTokenTTL || ttl > maxTokenTTL {
			return 0, 0, &AnswerError{
				http.StatusBadRequest, codeBadRequest,
				fmt.Sprintf("ttl must be a duration from %v to %v", minTokenTTL, maxTokenTTL),
			}
		}
	}
	if text := r.URL.Query().Get("uses"); text != "" {
		if uses, err = strconv.Atoi(text); err != nil || uses < 1 || uses > maxTokenUses {
			return 0, 0, &AnswerError{
				http.StatusBadRequest, codeBadRequest, fmt.Sprintf("uses must be a number from 1 to %d", maxTokenUses),
			}
		}
	}
	return ttl, uses, nil
}

// steer does something to what has the id of the request, and answers with how things are then.
func (h *Handler) steer(
	id func(*http.Request) (string, error), do func(ctx context.Context, id string) error,
	send func(context.Context, http.ResponseWriter) error,
) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		of, err := id(r)
		if err != nil {
			return err
		}
		return h.steered(r, func(ctx context.Context) error {
			if err := do(ctx, of); err != nil {
				return err
			}
			return send(ctx, w)
		})
	}
}

// steered does a change of the farm's trust, which goes on when its client leaves.
func (h *Handler) steered(r *http.Request, do func(ctx context.Context) error) error {
	select {
	case h.steering <- struct{}{}:
		defer func() { <-h.steering }()
	default:
		return &AnswerError{http.StatusServiceUnavailable, codeBusy, "too many changes of the farm's trust at once"}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), operationTime)
	defer cancel()
	return h.acted(r, do(ctx))
}

// tokenID is the id of a token. What may be a whole token is not one: its secret is not to be in a URL.
func tokenID(r *http.Request) (string, error) {
	id := r.URL.Query().Get("id")
	strange := func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '-' && c != '_'
	}
	if id == "" || len(id) > maxIDBytes || strings.ContainsFunc(id, strange) {
		return "", &AnswerError{http.StatusBadRequest, codeBadRequest, "id must be that of a token, not the token"}
	}
	return id, nil
}

func nodeID(r *http.Request) (string, error) {
	id := r.URL.Query().Get("id")
	if id == "" || len(id) > maxIDBytes || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		return "", &AnswerError{http.StatusBadRequest, codeBadRequest, fmt.Sprintf("id must be that of a node, at most %d bytes", maxIDBytes)}
	}
	return id, nil
}

func noID(*http.Request) (string, error) { return "", nil }

// acted notes what an operator did, or why it failed. Who may do that may also know why.
func (h *Handler) acted(r *http.Request, err error) error {
	if err == nil {
		h.log.LogAttrs(r.Context(), slog.LevelWarn, "operator acted", slog.String("path", r.URL.Path), slog.String("query", r.URL.RawQuery))
		return nil
	}
	h.log.LogAttrs(r.Context(), slog.LevelError, "operation failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	answer := answerOf(err)
	if answer.Code == codeInternal {
		answer = &AnswerError{http.StatusInternalServerError, codeFailed, clip(err.Error())}
	}
	return answer
}
