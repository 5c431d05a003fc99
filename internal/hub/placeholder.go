package hub

import (
	"net"

	"golang.org/x/sys/unix"
)

// A placeholder keeps a port that is closed from being given to somebody else: it is bound to it, and nobody listens, so
// that who connects is refused.
type placeholder struct{ fd int }

// hold takes the port of addr, which has just been closed. It is a help and no promise: where it does not work the port
// is merely free.
func hold(addr net.Addr) *placeholder {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.IP.To4() == nil {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	// Shared with what connections have left behind while it binds, with nobody after that.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	return &placeholder{fd}
}

// release gives the port back. It may be called on nil, and twice.
func (p *placeholder) release() {
	if p != nil && p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}
