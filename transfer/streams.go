package transfer

import "net"

// StreamGreeting is what a connection to a peer door begins with when it is for Parts.Streams, in a farm without trust.
const StreamGreeting = "STREAM pullonce/1\r\n\r\n"

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
