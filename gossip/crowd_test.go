package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// crowd is a gate that strangers and members come to, from addresses of their choice.
type crowd struct {
	t    *testing.T
	g    *Gossip
	gate *gate
	in   chan net.Conn
}

// wire is a transport of which connections come alone.
type wire struct {
	memberlist.Transport
	in chan net.Conn
}

func (w wire) PacketCh() <-chan *memberlist.Packet { return nil }
func (w wire) StreamCh() <-chan net.Conn           { return w.in }
func (w wire) Shutdown() error                     { return nil }

// remote is a connection that comes from an address.
type remote struct {
	net.Conn
	from net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.from }

func newCrowd(t *testing.T) *crowd {
	k, err := newKeys([][]byte{key(1)})
	if err != nil {
		t.Fatal(err)
	}
	g := &Gossip{cfg: Config{Timings: LAN()}, keys: k, refused: newRefusals(slog.New(slog.DiscardHandler))}
	c := &crowd{t: t, g: g, in: make(chan net.Conn)}
	c.gate = openGate(g, wire{in: c.in})
	t.Cleanup(func() { _ = c.gate.Shutdown() })
	return c
}

// dial comes from an address and says something.
func (c *crowd) dial(from string, says []byte) net.Conn {
	c.t.Helper()
	here, there := net.Pipe()
	c.t.Cleanup(func() { _ = here.Close() })
	c.in <- remote{there, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 9))}
	synctest.Wait()
	if len(says) > 0 {
		_, _ = here.Write(says)
		synctest.Wait()
	}
	return here
}

// admits dials as a member does, and fails when the library does not get the connection at once.
func (c *crowd) admits(from string, meanwhile func()) {
	c.t.Helper()
	begin, text := []byte{sealedMessage}, []byte("members")
	begin = binary.BigEndian.AppendUint32(begin, uint32(1+nonceBytes+len(text)+16))
	conn := c.dial(from, nil)
	meanwhile()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := conn.Write(append(begin, seal(c.t, key(1), text, begin)...)); err != nil {
		c.t.Fatalf("a member from %s cannot speak: %v", from, err)
	}
	synctest.Wait()
	select {
	case got := <-c.gate.StreamCh():
		_ = got.Close()
	default:
		c.t.Fatalf("a member from %s is not let in at once", from)
	}
}

// open tells whether the gate has kept a connection.
func open(t *testing.T, conn net.Conn) bool {
	t.Helper()
	err := conn.SetReadDeadline(time.Now())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestStrangersFromManyAddressesKeepNoMemberOut(t *testing.T) {
	for name, says := range map[string][]byte{"silence": nil, "a little": {sealedMessage, 0, 0, 1, 0, 7}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, n := newCrowd(t), 0
				strangers := func(count int) func() {
					return func() {
						for range count {
							n++
							c.dial(fmt.Sprintf("192.0.2.%d", n%200), says)
						}
					}
				}
				strangers(2 * maxStreams)()
				for i := range 50 {
					c.admits(fmt.Sprintf("10.0.0.%d", i), strangers(100)) // who come before the member has spoken
					time.Sleep(50 * time.Millisecond)
					strangers(100)()
				}
			})
		})
	}
}

func TestStrangersThatPromiseMuchKeepNoMemberOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		promise := binary.BigEndian.AppendUint32([]byte{sealedMessage}, maxFrameBytes)
		for i := range 100 {
			c.dial(fmt.Sprintf("192.0.2.%d", i), promise)
		}
		c.admits("10.0.0.1", func() {})
		for range 10 {
			c.dial("10.0.0.1", promise)
		}
		c.admits("10.0.0.1", func() {})
	})
}

func TestWhoSpeaksStaysLongerThanWhoIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		first := c.dial("10.0.0.1", []byte{sealedMessage})
		second := c.dial("10.0.0.1", nil)
		for range maxStreamsOfOne - 2 {
			c.dial("10.0.0.1", nil)
		}
		time.Sleep(time.Second)
		c.dial("10.0.0.1", nil)
		if !open(t, first) || open(t, second) {
			t.Errorf("the one that spoke is open: %v, the oldest silent one: %v; want the second closed", open(t, first), open(t, second))
		}
	})
}

func TestANetworkOfIPv6IsOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		other := c.dial("2001:db8:0:1::1", nil)
		for i := range 2 * maxStreams {
			c.dial(fmt.Sprintf("2001:db8::%x", i+1), nil)
		}
		if want := int64(2*maxStreams - maxStreamsOfOne); c.g.refused.counts[crowded].Load() != want {
			t.Errorf("of %d from one network %d are refused; want %d", 2*maxStreams, c.g.refused.counts[crowded].Load(), want)
		}
		if !open(t, other) {
			t.Error("one network takes the places of another")
		}
		c.admits("2001:db8::ffff", func() {})
	})
}

func TestAShutGateHasNoPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		conn := c.dial("10.0.0.1", nil)
		if err := c.gate.Shutdown(); err != nil || open(t, conn) {
			t.Errorf("Shutdown = %v, and a connection that waits is open: %v; want it closed", err, open(t, conn))
		}
		if all := c.gate.slots.all; all.streams != 0 || all.bytes != 0 {
			t.Errorf("%d places and %d bytes are taken; want none", all.streams, all.bytes)
		}
	})
}
