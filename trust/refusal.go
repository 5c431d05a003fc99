package trust

import (
	"errors"
	"fmt"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// What the farm decides against a node that asks for a certificate. Asking again does not help; the text tells what does.
var (
	ErrBadToken     = errors.New("the farm has no such token: it was mistyped, is gone since it ran out, or was revoked; make another with p2pctl token create")
	ErrTokenExpired = errors.New("the token has run out; make another with p2pctl token create")
	ErrTokenUsedUp  = errors.New("the token was used by other nodes as often as it may be; make another with p2pctl token create")
	ErrRevoked      = errors.New("the node is revoked; p2pctl node readmit lets it join again")
	ErrTaken        = errors.New("the node's id belongs to another key: give the node another id, or, if its data directory was lost, let it join again with p2pctl node readmit")
	ErrTooOld       = errors.New("the certificate ran out so long ago that it cannot renew itself; join again with a token")
	ErrBadRequest   = errors.New("the certificate request is not one that the farm signs")
)

// errBusy and errElsewhere decide nothing: another time, another node.
var (
	errBusy      = errors.New("the farm does not answer now")
	errElsewhere = errors.New("this node cannot sign")
)

var verdicts = []struct {
	status trustpb.Status
	err    error
	open   bool // nothing is decided
}{
	{trustpb.Status_STATUS_BAD_TOKEN, ErrBadToken, false},
	{trustpb.Status_STATUS_EXPIRED, ErrTokenExpired, false},
	{trustpb.Status_STATUS_USED_UP, ErrTokenUsedUp, false},
	{trustpb.Status_STATUS_REVOKED, ErrRevoked, false},
	{trustpb.Status_STATUS_TAKEN, ErrTaken, false},
	{trustpb.Status_STATUS_TOO_OLD, ErrTooOld, false},
	{trustpb.Status_STATUS_BAD_REQUEST, ErrBadRequest, false},
	{trustpb.Status_STATUS_ELSEWHERE, errElsewhere, true},
	{trustpb.Status_STATUS_BUSY, errBusy, true},
}

// definite tells whether the farm has decided, so that asking again is of no use.
func definite(err error) bool {
	for _, r := range verdicts {
		if errors.Is(err, r.err) {
			return !r.open
		}
	}
	return false
}

// answerFor says on the wire why there is no certificate. What is not a decision says nothing to who asks, who may be anybody.
func answerFor(err error) *trustpb.Answer {
	for _, r := range verdicts {
		if errors.Is(err, r.err) {
			return &trustpb.Answer{Status: r.status}
		}
	}
	return &trustpb.Answer{Status: trustpb.Status_STATUS_BUSY}
}

// refusalIn is what answerFor has said; nil when the answer has what was asked for.
func refusalIn(a *trustpb.Answer) error {
	if a.GetStatus() == trustpb.Status_STATUS_DONE {
		return nil
	}
	for _, r := range verdicts {
		if r.status == a.GetStatus() {
			return r.err
		}
	}
	return fmt.Errorf("%w: status %d", errBusy, a.GetStatus())
}
