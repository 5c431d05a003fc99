package transfer

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pullonce/pullonce/internal/bulk"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

const (
	// window is the flow control window of a stream and of a connection. Setting one alone would turn off gRPC's
	// estimator and leave the other at 64 KiB.
	window = 16 << 20
	// ioBuffer is the most that gRPC reads from, or writes to, a socket at once. It has a buffer of that size only while
	// there is something in it.
	ioBuffer = 512 << 10
	// maxMessage is the largest message that is taken from a peer: a piece, or a manifest, with its head.
	maxMessage = 5 << 20
	// unsent is how many bytes may wait in the kernel unsent, so that a small message does not queue behind
	// megabytes of pieces on a slow link.
	unsent = 256 << 10
	// congestion is the congestion control asked for towards peers. Pieces go out over many connections at once; with one
	// that fills the link's queue until packets are lost, the acknowledgements of what comes from the upstream wait
	// behind them and the upstream slows down. Where the kernel has no BBR its default stays.
	congestion = "bbr"
	// idle is how long an unused connection is kept.
	idle = 2 * time.Minute
)

// peers keeps one connection to each peer that is talked to.
type peers struct {
	dial   func(context.Context, string) (net.Conn, error)
	sealer *sealer // nil when connections stay as they are

	mu     sync.Mutex
	conns  map[string]*peer // by address
	closed bool
}

// A peer is the connection to one other node.
type peer struct {
	transferpb.TransferClient
	conn *grpc.ClientConn
	// lastByte is when the connection last brought a byte, in nanoseconds of the Unix time.
	lastByte atomic.Int64
}

func newPeers(dial func(context.Context, string) (net.Conn, error)) *peers {
	if dial == nil {
		d := &net.Dialer{Timeout: 2 * time.Second, Control: SocketOptions}
		dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	return &peers{dial: dial, conns: make(map[string]*peer)}
}

// to is the connection to the node at address; it is opened when it is first used.
func (p *peers) to(address string) (*peer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	if p.closed {
		return nil, ErrStopped
	}
	c := &peer{}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(p.credentials(address, c)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			raw, err := p.dial(ctx, address)
			if err != nil || p.isSealed() {
				return raw, err
			}
			return newPeerConn(raw, &c.lastByte), nil
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bulk.NewCodec()), grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithReadBufferSize(p.readBuffer()), grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithIdleTimeout(idle),
		grpc.WithConnectParams(connectParams()),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, err
	}
	c.conn, c.TransferClient = conn, transferpb.NewTransferClient(conn)
	p.conns[address] = c
	return c, nil
}

// isSealed tells whether connections are made safe.
func (p *peers) isSealed() bool { return p != nil && p.sealer != nil }

// readBuffer is what gRPC may read from a connection at once. A sealed one has fetched many frames already: a buffer more
// would be a copy more.
func (p *peers) readBuffer() int {
	if p.isSealed() {
		return 0
	}
	return ioBuffer
}

// credentials are those of the connection c to address.
func (p *peers) credentials(address string, c *peer) credentials.TransportCredentials {
	if !p.isSealed() {
		return insecure.NewCredentials()
	}
	return sealed{p.sealer, address, &c.lastByte}
}

// Conn is the connection to the peer at an address, for the calls of other rooms at the same door. It ends with Run,
// and after that there is none.
func (e *Engine) Conn(address string) (grpc.ClientConnInterface, error) {
	p, err := e.peers.to(address)
	if err != nil {
		return nil, err
	}
	return p.conn, nil
}

// accepts tells whether a connection to address can be made now.
func (p *peers) accepts(ctx context.Context, address string) bool {
	raw, err := p.dial(ctx, address)
	if err != nil {
		return false
	}
	if p.isSealed() {
		return p.sealer.accepts(ctx, raw, address)
	}
	_ = raw.Close()
	return true
}

// known tells whether there is a connection to address already.
func (p *peers) known(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns[address] != nil
}

// forget closes the connections to nodes that are no longer in addresses.
func (p *peers) forget(keep func(address string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, c := range p.conns {
		if !keep(address) {
			_ = c.conn.Close()
			delete(p.conns, address)
		}
	}
}

// close closes all connections; none is opened after that.
func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.forget(func(string) bool { return false })
}

// quiet is how long the connection has brought no byte.
func (c *peer) quiet(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, c.lastByte.Load()))
}

// SocketOptions keeps what waits unsent in the kernel small. It serves as net.Dialer.Control, and as
// net.ListenConfig.Control of the peer door.
func SocketOptions(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		// Best effort: without it haves queue behind pieces, which costs time and not correctness.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
	})
}
