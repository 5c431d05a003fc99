package adminapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// freeTries may be wrong in a row before the next ones are slowed.
	freeTries = 3
	// tryPause is the wait before each try that follows, and triesForgotten when nothing is held against anyone any more.
	tryPause       = time.Second
	triesForgotten = time.Minute
	// maxTries wait for their turn; more are turned away unseen, be they right or wrong.
	maxTries = 8
	// minTokenBytes is the shortest that the token of a door may be.
	minTokenBytes = 16
)

// tries look at the tokens of requests, one at a time: who guesses gets one look in a second.
type tries struct {
	want   [sha256.Size]byte
	queue  chan struct{}
	turn   chan struct{}
	failed int       // in a row; whoever has the turn
	last   time.Time // that one failed
}

func newTries(token string) *tries {
	return &tries{want: sha256.Sum256([]byte(token)), queue: make(chan struct{}, maxTries), turn: make(chan struct{}, 1)}
}

// admit is nil for a request with the right token.
func (t *tries) admit(w http.ResponseWriter, r *http.Request) error {
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !plain(from.Addr()).IsLoopback() {
		return &AnswerError{http.StatusForbidden, codeForbidden, "over HTTP this is for the node's own host only: the admin token is not encrypted"}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return unauthorized(w, "over HTTP this needs the admin token: Authorization: Bearer TOKEN")
	}
	select {
	case t.queue <- struct{}{}:
		defer func() { <-t.queue }()
	default:
		return &AnswerError{http.StatusTooManyRequests, codeBusy, "too many tries with wrong tokens"}
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	right, err := t.look(r.Context(), token)
	if err == nil && !right {
		err = unauthorized(w, "wrong admin token")
	}
	return err
}

// look compares a token after the pause that the tries before have earned.
func (t *tries) look(ctx context.Context, token string) (bool, error) {
	if time.Since(t.last) >= triesForgotten {
		t.failed = 0
	}
	if t.failed >= freeTries {
		select {
		case <-time.After(tryPause):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	got := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], t.want[:]) == 1 {
		t.failed = 0
		return true, nil
	}
	t.failed++
	t.last = time.Now()
	return false, nil
}

func unauthorized(w http.ResponseWriter, text string) error {
	w.Header().Set("WWW-Authenticate", "Bearer")
	return &AnswerError{http.StatusUnauthorized, codeUnauthorized, text}
}
