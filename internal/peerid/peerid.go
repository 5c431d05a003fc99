// Package peerid tells who is at the other end of a call between nodes, by the certificate of the connection, so that no
// node can speak in another's name. In a farm without trust nobody can tell, and everybody is believed.
//
// Its functions may be called by any number of goroutines.
package peerid

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// A Holder has the id that is in the certificate at the other end: a credentials.AuthInfo of a call, or a connection. ""
// says that there is no certificate.
type Holder interface{ PeerID() string }

// From is the id of the node that makes the call which ctx is of; not ok in a farm without trust.
func From(ctx context.Context) (id string, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", false
	}
	h, ok := p.AuthInfo.(Holder)
	if !ok || h.PeerID() == "" {
		return "", false
	}
	return h.PeerID(), true
}

// Check is nil when the node that makes the call is the one that it claims to be, or nobody can tell. Else it is a status
// PermissionDenied.
func Check(ctx context.Context, claimed string) error {
	if id, ok := From(ctx); ok && id != claimed {
		return status.Errorf(codes.PermissionDenied, "node %.64q speaks in the name of %.64q", id, claimed)
	}
	return nil
}
