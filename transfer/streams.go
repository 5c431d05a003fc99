package transfer

import (
	"fmt"
	"net"
	"os"
	"time"
)

// StreamGreeting is what a connection to a peer door begins with when it is for Parts.Streams.
const StreamGreeting = "STREAM pullonce/1\r\n\r\n"

// settled is when gRPC has surely taken its deadline off a connection that it was told to leave alone.
const settled = 10 * time.Millisecond

// handOn gives a connection out of gRPC's hands. gRPC takes its own deadline off the connection some time later, and one
// that its new owner has set with it; so a socket is handed on by a descriptor of its own, anything else a little later.
func handOn(c *peerConn, to func(net.Conn)) error {
	s, ok := c.Conn.(interface{ File() (*os.File, error) })
	if !ok {
		time.AfterFunc(settled, func() { to(c) })
		return nil
	}
	f, err := s.File()
	if err != nil {
		return fmt.Errorf("hand on a stream: %w", err)
	}
	defer func() { _ = f.Close() }()
	own, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("hand on a stream: %w", err)
	}
	_ = c.Conn.Close() // that of the other descriptor keeps the connection open
	if len(c.ahead) > 0 {
		own = &resumed{own, c.ahead}
	}
	to(own)
	return nil
}

// A resumed connection has brought something already, which is read first.
type resumed struct {
	net.Conn
	ahead []byte
}

func (r *resumed) Read(b []byte) (int, error) {
	if len(r.ahead) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.ahead)
	r.ahead = r.ahead[n:]
	return n, nil
}
