package gossip

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// netTransport is the library's transport whose streams end when the node stops:
// without that, a stop waits for every silent node that is being asked.
type netTransport struct {
	*memberlist.NetTransport
	stopping <-chan struct{}
}

func newNetTransport(listen netip.AddrPort, log *log.Logger, stopping <-chan struct{}) (*netTransport, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{listen.Addr().String()},
		BindPort:  int(listen.Port()),
		Logger:    log,
	})
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", listen, err)
	}
	return &netTransport{NetTransport: inner, stopping: stopping}, nil
}

// DialTimeout implements memberlist.Transport.
func (t *netTransport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *netTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout, Cancel: t.stopping} //nolint:staticcheck // the library has no context to give
	conn, err := dialer.Dial("tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, closed: make(chan struct{})}
	go s.closeOn(t.stopping)
	return s, nil
}

// stream is a connection that is closed by its user or by the node's stop.
type stream struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (s *stream) closeOn(stopping <-chan struct{}) {
	select {
	case <-stopping:
		_ = s.Close()
	case <-s.closed:
	}
}

// Close implements net.Conn. It may be called more than once.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		err = s.Conn.Close()
	})
	return err
}
