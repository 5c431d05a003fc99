package transfer

import (
	"errors"
	"net"
	"time"
)

// Listener is l for the gRPC server of a peer door, so that the door can hand connections on to Parts.Streams.
func Listener(l net.Listener) net.Listener { return arrivals{l} }

type arrivals struct{ net.Listener }

// Accept implements net.Listener.
func (l arrivals) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &arrival{Conn: c}, nil
}

// An arrival is a connection as gRPC sees it. gRPC sets a deadline on one that is new and takes that off after the
// handshake, also off one that it was told to leave alone: then the connection has another owner, whose deadlines these
// are. All this happens in one goroutine.
type arrival struct {
	net.Conn
	gone bool // to its new owner
}

// SetDeadline implements net.Conn.
func (a *arrival) SetDeadline(t time.Time) error {
	if a.gone {
		return nil
	}
	return a.Conn.SetDeadline(t)
}

// bare is the connection itself.
func bare(c net.Conn) net.Conn {
	if a, ok := c.(*arrival); ok {
		return a.Conn
	}
	return c
}

// errNoArrival says that the gRPC server does not serve a Listener.
var errNoArrival = errors.New("connections of this listener are not handed on")

// handOn gives c, which goes over the connection raw that has arrived, out of gRPC's hands.
func handOn(raw, c net.Conn, to func(net.Conn)) error {
	a, ok := raw.(*arrival)
	if !ok {
		return errNoArrival
	}
	if err := a.Conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	a.gone = true
	to(c)
	return nil
}
