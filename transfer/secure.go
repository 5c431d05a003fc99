package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
)

// What a connection between members is for, as the ALPN protocol of its handshake.
const (
	// ProtocolCalls is for gRPC.
	ProtocolCalls = "h2"
	// ProtocolStream is for Parts.Streams.
	ProtocolStream = "pullonce-raft/1"
)

// Secure makes connections between members safe. Both methods return when the handshake is over, ctx ends or raw is
// closed; on an error the caller closes raw. What they return must give the errors of raw's Read and Write on, wrapped or
// as they are, must take every Read and Write to raw, and must close raw with itself. They may be called by many at once.
type Secure interface {
	// Client does the handshake of an outgoing connection to the peer door at address, for protocol. id is the peer's.
	Client(ctx context.Context, raw net.Conn, address, protocol string) (c net.Conn, id string, err error)
	// Server does the handshake of an incoming one. protocol is what the peer asked for.
	Server(ctx context.Context, raw net.Conn) (c net.Conn, id, protocol string, err error)
}

// A sealer makes the connections of one engine safe, and has the buffers that they share.
type sealer struct {
	secure  Secure
	buffers *ioBuffers
	// refused tells of a peer that there is no safe connection to, for a reason that no network has.
	refused func(address string, why error)
}

// client opens a safe connection over raw to the peer door at address. It closes raw when there is none. lastByte may be
// nil.
func (s *sealer) client(ctx context.Context, raw net.Conn, address, protocol string, lastByte *atomic.Int64) (*sealedConn, error) {
	below := newRecords(raw, s.buffers, lastByte)
	c, id, err := s.secure.Client(ctx, below, address, protocol)
	if err != nil {
		_ = raw.Close()
		s.blame(ctx, address, err)
		return nil, fmt.Errorf("make the connection to %s safe: %w", address, err)
	}
	sealed := newSealedConn(c, below, id)
	// Who does not take this node's certificate says so only after the handshake is over here.
	sealed.unheard = func(err error) { s.blame(ctx, address, err) }
	return sealed, nil
}

// server lets a peer in that has just connected by raw. brought says whether it has said anything at all.
func (s *sealer) server(ctx context.Context, raw net.Conn) (c *sealedConn, protocol string, brought bool, err error) {
	below := newRecords(raw, s.buffers, nil)
	safe, id, protocol, err := s.secure.Server(ctx, below)
	if err != nil {
		return nil, "", below.heard, err
	}
	return newSealedConn(safe, below, id), protocol, true, nil
}

// blame tells of a peer that was refused, or refuses this node, unless the connection was merely lost.
func (s *sealer) blame(ctx context.Context, address string, err error) {
	for _, lost := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded,
		syscall.ECONNRESET, syscall.EPIPE, io.ErrClosedPipe,
	} {
		if errors.Is(err, lost) {
			return
		}
	}
	if s.refused != nil && ctx.Err() == nil {
		s.refused(address, err)
	}
}

// accepts tells whether the peer at the other end of raw and this node take each other for members. It closes raw.
func (s *sealer) accepts(ctx context.Context, raw net.Conn, address string) bool {
	c, err := s.client(ctx, raw, address, ProtocolCalls, nil)
	if err != nil {
		return false
	}
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	// A peer that lets this node in sends its settings at once.
	n, _ := c.Read(make([]byte, 1))
	return n > 0
}

// DialStream opens a stream to Parts.Streams of the node whose peer door is at address.
func (e *Engine) DialStream(ctx context.Context, address string) (net.Conn, error) {
	c, err := e.peers.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if s := e.peers.sealer; s != nil {
		sealed, err := s.client(ctx, c, address, ProtocolStream, nil)
		if err != nil {
			return nil, err
		}
		return sealed, nil
	}
	_ = c.SetWriteDeadline(time.Now().Add(greetingTime)) // a connection without deadlines is a test's pipe
	if _, err := io.WriteString(c, StreamGreeting); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("greet %s: %w", address, err)
	}
	return c, c.SetWriteDeadline(time.Time{})
}

// sealed are gRPC's credentials towards one peer.
type sealed struct {
	*sealer
	address  string
	lastByte *atomic.Int64
}

// ClientHandshake implements credentials.TransportCredentials.
func (c sealed) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := c.client(ctx, raw, c.address, ProtocolCalls, c.lastByte)
	if err != nil {
		return nil, nil, err
	}
	return conn, caller{AuthInfo: safe{}, underway: &conn.underway, id: conn.id}, nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (sealed) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("credentials of a client")
}

// Info implements credentials.TransportCredentials.
func (sealed) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c sealed) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials. Certificates have ids, and no names of hosts.
func (sealed) OverrideServerName(string) error { return nil }

// safe is what gRPC wants to know of a connection that is.
type safe struct{}

// AuthType implements credentials.AuthInfo.
func (safe) AuthType() string { return "tls" }

// GetCommonAuthInfo says to gRPC what the connection is good for.
func (safe) GetCommonAuthInfo() credentials.CommonAuthInfo {
	return credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
}

// refusedPeer tells the log from time to time of peers that there is no safe connection to.
func (e *Engine) refusedPeer(address string, why error) {
	if n, tell := e.unsafePeers.add(); tell {
		e.log.Warn("peer and this node do not take each other for members", slog.String("peer", address),
			slog.Any("error", why), slog.Int64("refused", n))
	}
}
