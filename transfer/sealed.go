package transfer

import "net"

// A sealedConn is a safe connection to or from a peer, whose id is known. It is read by one goroutine at a time.
type sealedConn struct {
	net.Conn // that gives what was decrypted
	below    *records
	id       string
	underway underway // to who has opened it
	// unheard is told of an error that comes before any byte. It may be nil.
	unheard func(error)
}

func newSealedConn(c net.Conn, below *records, id string) *sealedConn {
	return &sealedConn{Conn: c, below: below, id: id}
}

// PeerID is the id in the certificate of the peer.
func (c *sealedConn) PeerID() string { return c.id }

// Close ends what is on its way over the connection, too.
func (c *sealedConn) Close() error {
	c.underway.close()
	return c.Conn.Close()
}

// Read implements net.Conn.
func (c *sealedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.unheard != nil {
		if n == 0 && err != nil {
			c.unheard(err)
		}
		c.unheard = nil
	}
	return n, err
}

// Write implements net.Conn. What does not go into one record goes to the socket in few writes all the same.
func (c *sealedConn) Write(b []byte) (int, error) {
	if len(b) <= recordText {
		return c.Conn.Write(b)
	}
	c.below.expect(len(b))
	n, err := c.Conn.Write(b)
	if left := c.below.flush(); err == nil {
		err = left
	}
	return n, err
}
