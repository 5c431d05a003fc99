package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/pullonce/pullonce/internal/bulk"
)

const (
	// greetingTime is how long one that connects may take to say who it is; a peer does so at once.
	greetingTime = 5 * time.Second
	// maxStreams is how many calls one peer may have open: two or three that last for every swarm, and pieces.
	maxStreams = 1024
	// maxHeader bounds the headers of a call in bytes; those of this protocol have some hundreds.
	maxHeader = 16 << 10
	// serverIdle is a little longer than peers keep an unused connection, which they close themselves as a rule.
	serverIdle = idle + time.Minute
	// aliveEvery is how often a silent connection is tried, so that what a peer that vanished has open ends.
	aliveEvery, aliveTimeout = time.Minute, 20 * time.Second
	// strangersEvery is how often the log tells of connections that were refused.
	strangersEvery = time.Minute
)

// ServerOptions are the options that a gRPC server that the engine is attached to must have.
func (e *Engine) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(door{insecure.NewCredentials(), e}),
		grpc.ConnectionTimeout(greetingTime),
		grpc.ForceServerCodecV2(bulk.NewCodec()),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
		grpc.ReadBufferSize(e.peers.readBuffer()), grpc.WriteBufferSize(ioBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: serverIdle, Time: aliveEvery, Timeout: aliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: aliveEvery / 4, PermitWithoutStream: true}),
	}
}

// A door lets in who begins as a peer does.
type door struct {
	credentials.TransportCredentials
	e *Engine
}

// Clone keeps the door's own handshake.
func (d door) Clone() credentials.TransportCredentials {
	return door{d.TransportCredentials.Clone(), d.e}
}

// ServerHandshake refuses a connection that is none of a member's, and hands on one that is for Parts.Streams. Without
// Parts.Secure a member is who begins as HTTP/2 does, or with StreamGreeting.
func (d door) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if d.e.peers.isSealed() {
		return d.sealed(raw)
	}
	c := newPeerConn(bare(raw), nil)
	stream, err := greeted(c, d.e.streams != nil)
	if stream && err == nil {
		if err = handOn(raw, &resumed{c.Conn, c.ahead}, d.e.streams); err == nil {
			return nil, nil, credentials.ErrConnDispatched
		}
	}
	if err != nil {
		if !errors.Is(err, io.EOF) {
			d.e.refuse(raw.RemoteAddr(), err)
		}
		return nil, nil, err
	}
	out, info, err := d.TransportCredentials.ServerHandshake(c)
	return out, caller{AuthInfo: info, underway: &c.underway}, err
}

// sealed is ServerHandshake with Parts.Secure.
func (d door) sealed(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	ctx, cancel := context.WithTimeout(arriving{}, greetingTime)
	defer cancel()
	c, protocol, brought, err := d.e.peers.sealer.server(ctx, bare(raw))
	switch {
	case err != nil && !brought && errors.Is(err, io.EOF):
		return nil, nil, io.EOF // somebody has looked whether the door is open
	case err == nil && protocol == ProtocolCalls:
		return c, caller{AuthInfo: safe{}, underway: &c.underway, id: c.id}, nil
	case err == nil && protocol == ProtocolStream && d.e.streams != nil:
		if err = handOn(raw, c, d.e.streams); err == nil {
			return nil, nil, credentials.ErrConnDispatched
		}
	case err == nil:
		err = fmt.Errorf("protocol %.24q is not spoken here", protocol)
	}
	d.e.refuse(raw.RemoteAddr(), err)
	return nil, nil, err
}

// arriving is the context of a connection that arrives: gRPC has none for it.
type arriving struct{}

// Deadline implements context.Context.
func (arriving) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (arriving) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (arriving) Err() error { return nil }

// Value implements context.Context.
func (arriving) Value(any) any { return nil }

// A caller is who calls, and what is on its way to it over the same connection.
type caller struct {
	credentials.AuthInfo
	underway *underway
	id       string // in its certificate; "" without one
}

// PeerID implements peerid.Holder.
func (c caller) PeerID() string { return c.id }

// frameHead is how long the head of a frame is; its fourth byte says what kind it is of.
const frameHead = 9

// greeted waits until a connection has brought the preface of HTTP/2 and the head of the frame that must follow it. It
// says when the connection has brought StreamGreeting instead, where there are streams; then that is not read again.
func greeted(c *peerConn, streams bool) (stream bool, err error) {
	front, n := make([]byte, len(http2.ClientPreface)+frameHead), 0
	for n < len(front) {
		n, err = c.peek(front, n)
		switch {
		case streams && strings.HasPrefix(string(front[:n]), StreamGreeting):
			c.skip(len(StreamGreeting))
			return true, nil
		case !begins(front[:n], http2.ClientPreface) && !(streams && begins(front[:n], StreamGreeting)):
			return false, fmt.Errorf("greeting %.24q is none of this protocol", front[:n])
		case n == 0 && errors.Is(err, io.EOF):
			return false, io.EOF // somebody has looked whether the door is open
		case err != nil && n < len(front):
			return false, fmt.Errorf("wait for a greeting: %w", err)
		}
	}
	if head := front[len(http2.ClientPreface):]; http2.FrameType(head[3]) != http2.FrameSettings {
		return false, fmt.Errorf("frame head %x does not follow a greeting", head)
	}
	return false, nil
}

// begins says that what was said goes on to be the greeting, or has been it.
func begins(said []byte, greeting string) bool {
	n := min(len(said), len(greeting))
	return string(said[:n]) == greeting[:n]
}

// strangers counts who was refused, and says when the log is to be told.
type strangers struct {
	count atomic.Int64
	told  atomic.Int64 // when the log was told, in nanoseconds of the Unix time
}

// add counts one more. It says how many there were, and whether the log has not heard of any of late.
func (s *strangers) add() (n int64, tell bool) {
	n = s.count.Add(1)
	last, now := s.told.Load(), time.Now()
	return n, now.Sub(time.Unix(0, last)) >= strangersEvery && s.told.CompareAndSwap(last, now.UnixNano())
}

// refuse counts a connection that speaks no protocol of this farm, or is of no member.
func (e *Engine) refuse(from net.Addr, why error) {
	if n, tell := e.strangers.add(); tell {
		e.log.Warn("connection refused, it is no peer's", slog.String("from", from.String()), slog.Any("error", why),
			slog.Int64("refused", n))
	}
}
