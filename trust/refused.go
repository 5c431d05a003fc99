package trust

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A reason is why somebody was refused: one of a few words, which metrics are labelled with.
type reason string

const (
	wrongAuthority reason = "authority"       // a certificate, but not of an authority of the farm
	wrongFarm      reason = "farm"            // a certificate of another farm
	wrongNode      reason = "other_node"      // a member's certificate, but not of who should be there
	revokedNode    reason = "revoked"         //
	runOut         reason = "expired"         //
	tooEarly       reason = "not_yet"         // a certificate that is not good yet
	badCertificate reason = "bad_certificate" // what a member's certificate does not look like
	noCertificate  reason = "no_certificate"  //
	oldVersion     reason = "tls_version"     // below TLS 1.3
	noProtocol     reason = "protocol"        // no ALPN that is spoken here
	notTLS         reason = "not_tls"         // junk, plain HTTP
	tooSlow        reason = "slow"            // no end of the handshake in time
	noRoom         reason = "no_room"         // too many handshakes at once
	leftEarly      reason = "left"            // closed before the handshake was done
	brokeOff       reason = "broken"          // anything else that is wrong with a handshake
	badToken       reason = "token"           // a token that is not known, used up, run out or dropped
	badRequest     reason = "request"         // at the join door: no question that it has an answer to
)

var allReasons = []reason{
	wrongAuthority, wrongFarm, wrongNode, revokedNode, runOut, tooEarly, badCertificate, noCertificate, oldVersion,
	noProtocol, notTLS, tooSlow, noRoom, leftEarly, brokeOff, badToken, badRequest,
}

// A RefusedError says why a connection or a request was refused.
type RefusedError struct {
	Reason string // one of a few words
	Err    error
}

// Error says what was wrong.
func (e *RefusedError) Error() string { return "refused: " + e.Err.Error() }

// Unwrap is what was wrong.
func (e *RefusedError) Unwrap() error { return e.Err }

// refuse makes a RefusedError.
func refuse(why reason, err error) error { return &RefusedError{Reason: string(why), Err: err} }

// quietFor is how long nothing is logged of outsiders after a line about one: they must not fill the disk.
const quietFor = time.Minute

// refusals counts who was refused.
type refusals struct {
	log    *slog.Logger
	counts map[reason]*atomic.Int64 // all reasons, fixed

	mu     sync.Mutex
	logged time.Time
	silent int64 // refused since then
}

func newRefusals(log *slog.Logger) *refusals {
	r := &refusals{log: log, counts: make(map[reason]*atomic.Int64, len(allReasons))}
	for _, why := range allReasons {
		r.counts[why] = new(atomic.Int64)
	}
	return r
}

// count takes down that somebody at from was refused, and tells of it at most once in quietFor.
func (r *refusals) count(why reason, from net.Addr, err error) {
	n, ok := r.counts[why]
	if !ok {
		n = r.counts[brokeOff]
	}
	n.Add(1)
	more, tell := r.tell(time.Now())
	if !tell {
		return
	}
	address := ""
	if from != nil {
		address = from.String()
	}
	r.log.LogAttrs(context.Background(), slog.LevelWarn, "refused who is not a member",
		slog.String("reason", string(why)), slog.String("address", address), slog.Any("error", err), slog.Int64("untold", more))
}

// tell says whether a line may be logged now, and how many were refused since the last one.
func (r *refusals) tell(now time.Time) (more int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.logged.IsZero() && now.Sub(r.logged) < quietFor {
		r.silent++
		return 0, false
	}
	more, r.silent, r.logged = r.silent, 0, now
	return more, true
}
