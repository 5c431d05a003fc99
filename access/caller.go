package access

import (
	"context"
	"net/netip"
)

// A Caller is who sent a request, as far as its connection and its header tell.
type Caller struct {
	// Authorization is what the client has sent with the request, "" for nothing.
	Authorization Credential
	// Local says that the request came over loopback.
	Local bool
	// OwnName says that the farm was asked by its own name. Only then may it ask for a password: by any other name a
	// client may take it for the mirror of a registry, and send the password that it has for that one.
	OwnName bool
	// Address is where the request came from; the zero Addr when that is not known.
	Address netip.Addr
}

// nobody is who asks when no request of a client is behind a call.
var nobody = Caller{Local: true}

type callerKey struct{}

// WithCaller is ctx for what is done for c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who ctx's work is done for. Without WithCaller that is the node itself: nobody's credentials, over loopback.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return nobody
}
