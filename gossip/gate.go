package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// The bytes that a connection may begin with.
const (
	tlsHandshake  = 0x16
	sealedMessage = 10 // of the library: four bytes of length follow, and a sealed message of that length
)

// A gate stands between the network and the library. It lets in what is sealed with a key of the farm, hands TLS
// connections to the door, and turns away the rest before the library has read a byte of it; and it lets nothing out to
// members that are refused.
type gate struct {
	memberlist.Transport
	g       *Gossip
	slots   *slots
	packets chan *memberlist.Packet
	streams chan net.Conn

	closing chan struct{} // nothing goes to the library any more
	closed  chan struct{} // nothing comes from the network any more
	once    sync.Once
	work    sync.WaitGroup
}

// openGate starts a gate before inner. Shutdown ends it.
func openGate(g *Gossip, inner memberlist.Transport) *gate {
	t := &gate{
		Transport: inner, g: g, slots: newSlots(),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	t.work.Go(t.sortPackets)
	t.work.Go(t.sortStreams)
	return t
}

// PacketCh implements memberlist.Transport.
func (t *gate) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *gate) StreamCh() <-chan net.Conn { return t.streams }

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *gate) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.g.refuses(a.Name) {
		return time.Now(), nil // lost on the way, as packets are
	}
	return t.WriteTo(b, a.Addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *gate) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if t.g.refuses(a.Name) {
		return nil, fmt.Errorf("dial %s: it is refused", a.Name)
	}
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport. The network's own goroutines wait for those who take from them, so the gate
// goes on taking until they have ended.
func (t *gate) Shutdown() error {
	var err error
	t.once.Do(func() {
		close(t.closing)
		for _, p := range t.slots.close() {
			_ = p.conn.Close()
		}
		err = t.Transport.Shutdown()
		close(t.closed)
		t.work.Wait()
	})
	return err
}

func (t *gate) sortPackets() {
	scratch := make([]byte, maxPacketBytes)
	for {
		select {
		case p := <-t.Transport.PacketCh():
			if !t.admitsPacket(p, scratch) {
				continue
			}
			select {
			case t.packets <- p:
			case <-t.closing:
			}
		case <-t.closed:
			return
		}
	}
}

func (t *gate) admitsPacket(p *memberlist.Packet, scratch []byte) bool {
	switch {
	case !t.g.keys.inUse():
		return true
	case len(p.Buf) > maxPacketBytes:
		t.g.refused.count(oversized, p.From.String())
		return false
	case !t.g.keys.opens(p.Buf, nil, scratch):
		t.g.refused.count(badPacket, p.From.String())
		return false
	}
	return true
}

func (t *gate) sortStreams() {
	for {
		select {
		case conn := <-t.Transport.StreamCh():
			t.take(conn)
		case <-t.closed:
			return
		}
	}
}

// take gives a new connection a place to say what it wants, if there is one.
func (t *gate) take(conn net.Conn) {
	p, out := t.slots.take(conn)
	if out != nil {
		abort(out.conn) // who reads from it counts it
	}
	if p != nil {
		t.work.Go(func() { t.sort(&incoming{Conn: conn, slots: t.slots, place: p}) })
		return
	}
	select {
	case <-t.closing:
	default:
		t.g.refused.count(crowded, conn.RemoteAddr().String())
	}
	abort(conn)
}

// sort finds out what a connection wants and hands it to who can do it.
func (t *gate) sort(c *incoming) {
	why, err := t.read(c)
	if !t.slots.settle(c.place) {
		why, err = crowded, errCrowded
	}
	switch {
	case errors.Is(err, errTLS) && t.g.cfg.Door != nil:
		c.leave()
		t.g.cfg.Door(c)
	case err != nil:
		t.g.refused.count(why, c.RemoteAddr().String())
		abort(c)
	default:
		select {
		case t.streams <- c:
		case <-t.closing:
			_ = c.Close()
		}
	}
}

var (
	// errTLS says that a connection begins with a TLS handshake.
	errTLS = errors.New("a TLS handshake")
	// errCrowded says that a connection had to go for others.
	errCrowded = errors.New("too many others")
)

// read reads as much of a connection as it takes to know whether the library may have it. All of it is there to be read
// again.
func (t *gate) read(c *incoming) (reason, error) {
	if err := c.SetReadDeadline(time.Now().Add(t.g.cfg.Timings.StreamTimeout)); err != nil {
		return silent, err
	}
	if err := c.ahead(1); err != nil {
		return silent, err
	}
	if c.head[0] == tlsHandshake {
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return silent, err
		}
		return closedDoor, errTLS
	}
	if why, err := t.readFrame(c); err != nil {
		return why, err
	}
	return badStream, c.SetReadDeadline(time.Time{})
}

func (t *gate) readFrame(c *incoming) (reason, error) {
	if !t.g.keys.inUse() {
		return 0, nil
	}
	if c.head[0] != sealedMessage {
		return badStream, errors.New("not sealed")
	}
	if err := c.ahead(4); err != nil {
		return silent, err
	}
	size := int64(binary.BigEndian.Uint32(c.head[1:]))
	if size > maxFrameBytes {
		return oversized, fmt.Errorf("frame of %d bytes", size)
	}
	if !c.grow(size) {
		return crowded, errCrowded
	}
	if err := c.ahead(int(size)); err != nil {
		return silent, err
	}
	if !t.g.keys.opens(c.head[5:], c.head[:5], nil) {
		return badStream, errors.New("sealed with another key")
	}
	return 0, nil
}

// abort closes a connection without leaving anything of it in the kernel.
func abort(conn net.Conn) {
	if c, ok := conn.(*incoming); ok {
		defer c.leave()
		conn = c.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// incoming is a connection that others opened. It has its place until it is closed or handed to the door.
type incoming struct {
	net.Conn
	slots *slots
	place *place
	head  []byte // what was read ahead and not read since
}

// ahead reads n bytes more. Memory is taken as they come: that many may never come.
func (c *incoming) ahead(n int) error {
	const step = 64 << 10
	for n > 0 {
		part := make([]byte, min(n, max(step, len(c.head))))
		if _, err := io.ReadFull(c.Conn, part); err != nil {
			return err
		}
		c.head = append(c.head, part...)
		c.place.said.Add(int64(len(part)))
		n -= len(part)
	}
	return nil
}

// grow takes room for n bytes.
func (c *incoming) grow(n int64) bool {
	out, ok := c.slots.grow(c.place, n)
	for _, p := range out {
		abort(p.conn)
	}
	return ok
}

// leave gives up the connection's place.
func (c *incoming) leave() { c.slots.leave(c.place) }

// Read implements net.Conn.
func (c *incoming) Read(b []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.head)
	if c.head = c.head[n:]; len(c.head) == 0 {
		c.head = nil
	}
	return n, nil
}

// Close implements net.Conn. It may be called more than once.
func (c *incoming) Close() error {
	c.leave()
	return c.Conn.Close()
}

// refuses says that a member is not to be one. This node itself always is.
func (g *Gossip) refuses(id string) bool {
	return id != "" && id != g.cfg.ID && g.cfg.Refuse != nil && g.cfg.Refuse(id)
}

var _ memberlist.NodeAwareTransport = (*gate)(nil)
