package registryapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/pullonce/pullonce/registryapi"
)

// caller is a connection between two addresses.
type caller struct {
	net.Conn
	from, to net.Addr
}

func (c caller) RemoteAddr() net.Addr { return c.from }
func (c caller) LocalAddr() net.Addr  { return c.to }

// call asks a question over a connection between two addresses, which is kept; false when it was closed instead.
func call(t *testing.T, p *pipes, from, to string) (conn net.Conn, answered bool) {
	t.Helper()
	address := func(ip string) net.Addr {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 5000))
	}
	here, there := net.Pipe()
	p.conns <- caller{there, address(from), address(to)}
	_, err := io.WriteString(here, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if errors.Is(err, io.ErrClosedPipe) {
		return here, false
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(here), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET from %s = %d, %v; want 200", from, resp.StatusCode, err)
	}
	return here, true
}

// amongAddresses runs a door that calls come to, with a bound of connections.
func amongAddresses(t *testing.T, limit int, test func(t *testing.T, call func(from, to string) (net.Conn, bool))) {
	synctest.Test(t, func(t *testing.T) {
		cfg, p := testConfig(), newPipes()
		cfg.MaxConnections = limit
		server := registryapi.NewServer(cfg, newDoor(t, cfg, newMemory(), nil), quiet())
		done := make(chan error)
		go func() { done <- server.Serve(p) }()
		var all []net.Conn
		defer func() {
			for _, conn := range all {
				_ = conn.Close()
			}
			_ = server.Close()
			<-done
		}()
		test(t, func(from, to string) (net.Conn, bool) {
			t.Helper()
			conn, ok := call(t, p, from, to)
			all = append(all, conn)
			return conn, ok
		})
	})
}

func TestConnectionsFromElsewhereTakeNoneOfTheHostsOwn(t *testing.T) {
	amongAddresses(t, 20, func(t *testing.T, call func(from, to string) (net.Conn, bool)) {
		for i := range 30 {
			if _, ok := call(fmt.Sprintf("192.0.2.%d", i), "10.0.0.1"); ok != (i < 20) {
				t.Fatalf("connection %d from elsewhere is served: %v; want 20 of them", i, ok)
			}
		}
		for i := range 30 {
			to := [...]string{"127.0.0.1", "::1"}[i%2]
			if _, ok := call(to, to); ok != (i < 20) {
				t.Fatalf("connection %d of the host's own is served: %v; want 20 of them", i, ok)
			}
		}
	})
}

func TestOneAddressHasAShareOfTheConnections(t *testing.T) {
	for name, from := range map[string]string{"IPv4": "192.0.2.1", "network of IPv6": "2001:db8::%x"} {
		t.Run(name, func(t *testing.T) {
			amongAddresses(t, 4096, func(t *testing.T, call func(from, to string) (net.Conn, bool)) {
				address := func(i int) string {
					if name == "IPv4" {
						return from
					}
					return fmt.Sprintf(from, i+1)
				}
				var first net.Conn
				for i := range 300 {
					conn, ok := call(address(i), "10.0.0.1")
					if ok != (i < 256) {
						t.Fatalf("connection %d of one is served: %v; want 256 of them", i, ok)
					}
					if i == 0 {
						first = conn
					}
				}
				if _, ok := call("2001:db8:0:1::1", "10.0.0.1"); !ok {
					t.Error("another one is not served")
				}
				_ = first.Close()
				synctest.Wait()
				if _, ok := call(address(1), "10.0.0.1"); !ok {
					t.Error("after one was closed the next one is not served")
				}
				for i := range 300 {
					if _, ok := call("127.0.0.1", "127.0.0.1"); !ok {
						t.Fatalf("connection %d of the host's own is not served", i)
					}
				}
			})
		})
	}
}
