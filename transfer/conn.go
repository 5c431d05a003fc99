package transfer

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"
)

// A peerConn is a connection to or from a peer. gRPC asks it for a buffer's worth by ReadOnReady and keeps no buffer
// while nothing comes, which a connection that hides the socket would cost it: a node of a large farm has a connection to
// every member. It is read by one goroutine at a time.
type peerConn struct {
	net.Conn
	raw   syscall.RawConn // nil when the connection is none of the kernel's
	ahead []byte          // read already, and to be read again
	// lastByte is when the connection last brought a byte, in nanoseconds of the Unix time, which tells a slow peer from
	// one that vanished. It may be nil.
	lastByte *atomic.Int64
	underway underway // to who has opened it
}

func newPeerConn(c net.Conn, lastByte *atomic.Int64) *peerConn {
	p := &peerConn{Conn: c, lastByte: lastByte}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			p.raw = raw
		}
	}
	return p
}

// Close ends what is on its way over the connection, too.
func (c *peerConn) Close() error {
	c.underway.close()
	return c.Conn.Close()
}

func (c *peerConn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		return c.again(b), nil
	}
	n, err := c.Conn.Read(b)
	c.heard(n)
	return n, err
}

// ReadOnReady waits until something has come and only then takes a buffer, as gRPC's framer wants it.
func (c *peerConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	if len(c.ahead) > 0 || c.raw == nil {
		buf := pool.Get(size)
		n, err := c.Read(*buf)
		return kept(pool, buf, n, err)
	}
	buf, n, err := readReady(c.raw, func() *[]byte { return pool.Get(size) }, pool.Put)
	c.heard(n)
	return kept(pool, buf, n, err)
}

// readReady waits until a socket has something and only then takes a buffer to read it into. The buffer is nil, or the
// caller's.
func readReady(raw syscall.RawConn, get func() *[]byte, put func(*[]byte)) (buf *[]byte, n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		buf = get()
		for {
			if n, err = syscall.Read(int(fd), *buf); err != syscall.EINTR { //nolint:errorlint // a bare number
				break
			}
		}
		if err == syscall.EAGAIN { //nolint:errorlint // a bare number
			put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case waited != nil:
		n, err = 0, waited
	case err == nil && n == 0:
		err = io.EOF
	}
	return buf, max(n, 0), err
}

// kept is what was read, or gives the buffer back when that is nothing.
func kept(pool mem.BufferPool, buf *[]byte, n int, err error) (*[]byte, int, error) {
	if n > 0 {
		return buf, n, err
	}
	if buf != nil {
		pool.Put(buf)
	}
	return nil, 0, err
}

func (c *peerConn) again(b []byte) int {
	n := copy(b, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n
}

// skip drops n of the bytes that are to be read again.
func (c *peerConn) skip(n int) {
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
}

func (c *peerConn) heard(n int) {
	if n > 0 && c.lastByte != nil {
		c.lastByte.Store(time.Now().UnixNano())
	}
}

// peek reads what has come into front, from at on, and leaves all of front up to there to be read again.
func (c *peerConn) peek(front []byte, at int) (int, error) {
	c.ahead = nil
	n, err := c.Read(front[at:])
	c.ahead = front[:at+n]
	return at + n, err
}
