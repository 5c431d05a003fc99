package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A remote is a connection that comes from an address.
type remote struct {
	net.Conn
	from string
}

func (r remote) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(r.from))
}

// pipeConn is a live connection of a made-up peer with a made-up key.
func pipeConn(t *testing.T, l *live, key byte) *liveConn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return &liveConn{Conn: tls.Client(near, &tls.Config{}), raw: near, id: "peer", key: [32]byte{key}, list: l, chain: []*x509.Certificate{{}}}
}

// half opens n connections from addresses that from makes, and says nothing on them.
func half(t *testing.T, first *Trust, n int, from func(i int) string) (ended *sync.WaitGroup) {
	t.Helper()
	ended = &sync.WaitGroup{}
	for i := range n {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = near.Close() })
		ended.Go(func() { _, _, _, _ = first.Server(t.Context(), remote{far, from(i)}) })
	}
	synctest.Wait()
	return ended
}

func TestHalfOpenConnectionsAreBoundedAndKeepNoMemberOut(t *testing.T) {
	for _, c := range []struct {
		name string
		from func(i int) string
		want int // at once
	}{
		{"from everywhere", func(i int) string { return fmt.Sprintf("10.0.%d.%d:9", i/250, i%250) }, 64},
		{"from one address", func(int) string { return "10.0.0.1:9" }, 16},
		{"from one network", func(i int) string { return fmt.Sprintf("[2001:db8:0:1::%x]:9", i+1) }, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := founder(t, Config{Node: "one", Handshakes: 64, HandshakesPerAddress: 16})
				second := member(t, first, Config{Node: "two"})
				const many = 2000
				began := time.Now()
				ended := half(t, first, many, c.from)
				if n := first.peers.count(); n != c.want {
					t.Errorf("%d handshakes at once; want %d", n, c.want)
				}
				for _, address := range []string{"10.9.9.9:1", c.from(0)} {
					near, far := net.Pipe()
					served := make(chan error, 1)
					go func() {
						_, _, _, err := first.Server(t.Context(), remote{far, address})
						served <- err
					}()
					conn, _, err := second.Client(t.Context(), near, "", "h2")
					if err != nil {
						t.Errorf("a member could not get in from %s: %v", address, err)
					} else {
						conn.(*liveConn).cut()
					}
					if err := <-served; err != nil {
						t.Errorf("a member was not let in from %s: %v", address, err)
					}
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("members waited %s; want not at all", took)
				}
				ended.Wait()
				if n := count(first, noRoom) + count(first, tooSlow); n != many || count(first, tooSlow) > int64(c.want) {
					t.Errorf("counted %d, of them %d slow; want %d, at most %d", n, count(first, tooSlow), many, c.want)
				}
				if first.peers.count() != 0 {
					t.Errorf("%d handshakes left behind", first.peers.count())
				}
			})
		})
	}
}

func TestABurstOfMembersDoesNotThrowEachOtherOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handshakes{limit: 4, perAddress: 4}
		enter := func() (*shake, context.Context, bool) {
			ctx, cancel := context.WithCancelCause(t.Context())
			s, ok := h.enter(netip.Addr{}, cancel)
			return s, ctx, ok
		}
		var early []context.Context
		for range 4 {
			s, ctx, _ := enter()
			h.heard(s)
			early = append(early, ctx)
		}
		if _, _, ok := enter(); ok {
			t.Error("a fifth was let in while four were at it")
		}
		time.Sleep(patience)
		s, _, ok := enter()
		if !ok || !errors.Is(context.Cause(early[0]), errNoRoom) || early[1].Err() != nil {
			t.Errorf("a second later: let in: %v, the first ended by %v; want in, %v", ok, context.Cause(early[0]), errNoRoom)
		}
		if h.leave(s); h.count() != 3 {
			t.Errorf("%d after leaving; want 3", h.count())
		}
		h.leave(s) // who had to go leaves as well
		if h.count() != 3 {
			t.Errorf("%d after leaving twice; want 3", h.count())
		}
	})
}

func TestWhoSaysNothingGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handshakes{limit: 3, perAddress: 2}
		at := func(address string) (*shake, context.Context, bool) {
			ctx, cancel := context.WithCancelCause(t.Context())
			s, ok := h.enter(netip.MustParseAddr(address), cancel)
			return s, ctx, ok
		}
		spoke, speaking, _ := at("10.0.0.1")
		h.heard(spoke)
		_, silent, _ := at("10.0.0.1")
		_, other, _ := at("10.0.0.2")
		if _, _, ok := at("10.0.0.1"); !ok || silent.Err() == nil || other.Err() != nil || speaking.Err() != nil {
			t.Errorf("a third of one address: %v; want it in place of that address's silent one", ok)
		}
		if _, _, ok := at("10.0.0.3"); !ok || other.Err() == nil || speaking.Err() != nil {
			t.Errorf("a fourth: %v; want it in place of the oldest silent one", ok)
		}
	})
}

func TestTheJoinDoorDoesNotTakeMembersRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one", Handshakes: 2})
		var ended sync.WaitGroup
		for range 10 {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = near.Close() })
			ended.Go(func() { _, _ = first.acceptDoor(t.Context(), far) })
		}
		synctest.Wait()
		if first.door.count() != 2 || first.peers.count() != 0 {
			t.Errorf("%d handshakes at the join door, %d of members; want 2, 0", first.door.count(), first.peers.count())
		}
		ended.Wait()
	})
}

func TestHalfOpenSocketsKeepNoMemberOut(t *testing.T) {
	first := founder(t, Config{Node: "one", Handshakes: 64, HandshakesPerAddress: 32})
	second := member(t, first, Config{Node: "two"})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const many = 500
	var serving sync.WaitGroup
	arrived := make(chan struct{}, many+2)
	serving.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				arrived <- struct{}{}
				_, _, _, _ = first.Server(t.Context(), raw)
			})
		}
	})
	dial := func() net.Conn {
		raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var silent []net.Conn
	for range many {
		silent = append(silent, dial())
		<-arrived
	}
	conn, id, err := second.Client(t.Context(), dial(), "", "h2")
	if err != nil || id != "one" {
		t.Errorf("Client() among %d half-open connections = %q, %v; want one", many, id, err)
	} else {
		_ = conn.Close()
	}
	if n := first.peers.count(); n > 32 {
		t.Errorf("%d handshakes at once; want at most 32", n)
	}
	for _, raw := range silent {
		_ = raw.Close()
	}
	_ = listener.Close()
	serving.Wait()
	if n := total(first); n != many {
		t.Errorf("counted %d refused; want %d", n, many)
	}
	first.open.closeWhere(func(*liveConn) bool { return true })
}
