package transfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pullonce/pullonce/internal/certs"
	"github.com/pullonce/pullonce/internal/peerid"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

func authority(t testing.TB) *certs.Authority {
	t.Helper()
	a, err := certs.New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func memberOf(t testing.TB, a *certs.Authority, id string) *certs.Member {
	t.Helper()
	m, err := a.Member(id, ProtocolCalls, ProtocolStream)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// insider makes the connections of a member safe.
func insider(t testing.TB, a *certs.Authority, id string) *sealer {
	t.Helper()
	return &sealer{secure: memberOf(t, a, id), buffers: newIOBuffers()}
}

// openSafe serves a peer door that lets in members of a's farm alone.
func openSafe(t *testing.T, a *certs.Authority, l net.Listener, log io.Writer, streams func(net.Conn)) *Engine {
	t.Helper()
	e := &Engine{cfg: Default(), log: slog.New(slog.NewTextHandler(log, nil)), streams: streams, peers: newPeers(nil)}
	e.peers.sealer = insider(t, a, "door")
	serveDoor(t, e, l)
	return e
}

// safePeers are the connections of a member.
func safePeers(t *testing.T, a *certs.Authority, id string, l *bufconn.Listener) *peers {
	t.Helper()
	p := newPeers(nil)
	if l != nil {
		p.dial = func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	}
	p.sealer = insider(t, a, id)
	t.Cleanup(p.close)
	return p
}

func TestAFarmMovesBlobsOverSafeConnections(t *testing.T) {
	a, w := authority(t), newTown(t)
	w.parts = func(id string, p *Parts, c *Config) {
		p.Secure = memberOf(t, a, id)
		dial := c.Dial
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			raw, err := dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return &firstByte{Conn: raw, t: t}, nil
		}
	}
	all := w.houses("a", "b", "c", "d")
	data, d := w.ownedBy(all[0].known.View(), "a", 20<<20+12345, "safe")
	var group sync.WaitGroup
	for _, h := range all {
		group.Go(func() {
			if got, err := h.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s got %d bytes, %v; want the blob", h.cfg.Self.ID, len(got), err)
			}
		})
	}
	group.Wait()
	if sent := w.up.sent.Load(); sent != int64(len(data)) {
		t.Errorf("the upstream sent %d bytes; want %d once", sent, len(data))
	}
	for _, h := range all {
		if n := h.strangers.count.Load(); n != 0 {
			t.Errorf("%s refused %d connections of members", h.cfg.Self.ID, n)
		}
	}
}

// A firstByte is a connection that must begin with a handshake of TLS.
type firstByte struct {
	net.Conn
	t    *testing.T
	once sync.Once
}

func (c *firstByte) Write(b []byte) (int, error) {
	c.once.Do(func() {
		if len(b) < recordHead || b[0] != 22 {
			c.t.Errorf("a connection to a peer begins with %.10x; want a handshake", b)
		}
	})
	return c.Conn.Write(b)
}

func TestAStreamIsToldByItsProtocol(t *testing.T) {
	a := authority(t)
	taken := make(chan net.Conn, 1)
	l := listenTCP(t)
	e := openSafe(t, a, l, io.Discard, func(c net.Conn) { taken <- c })
	client := &Engine{peers: safePeers(t, a, "client", nil)}
	dial := func() (net.Conn, error) { return client.DialStream(t.Context(), l.Addr().String()) }
	here, there := echoed(t, dial, taken, "after it")
	for want, c := range map[string]net.Conn{"door": here, "client": there} {
		if h, ok := c.(peerid.Holder); !ok || h.PeerID() != want {
			t.Errorf("the stream to %s does not say so", want)
		}
	}
	checkStream(t, here, there)
	ping(t, client.peers, l.Addr().String())
	if n := e.strangers.count.Load(); n != 0 {
		t.Errorf("%d strangers counted; want none", n)
	}
}

func TestASafeStreamLivesLongerThanAGreetingMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t)
		taken := make(chan net.Conn, 1)
		l := bufconn.Listen(64 << 10)
		openSafe(t, a, l, io.Discard, func(c net.Conn) { taken <- c })
		client := &Engine{peers: safePeers(t, a, "client", l)}
		here, there := echoed(t, func() (net.Conn, error) { return client.DialStream(t.Context(), "door") }, taken, "after it")
		go func() {
			time.Sleep(10 * greetingTime)
			_, _ = io.WriteString(here, "late")
		}()
		late := make([]byte, 4)
		if _, err := io.ReadFull(there, late); err != nil {
			t.Errorf("ReadFull of what came late = %v; want it", err)
		}
		_, _ = here.Close(), there.Close()
	})
}

func TestADeadlineSetAtOnceOnASafeStreamStays(t *testing.T) {
	a := authority(t)
	over := make(chan error, 1)
	l := listenTCP(t)
	openSafe(t, a, l, io.Discard, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(30 * time.Millisecond))
		go func() {
			defer func() { _ = c.Close() }()
			_, err := c.Read(make([]byte, 1))
			over <- err
		}()
	})
	client := &Engine{peers: safePeers(t, a, "client", nil)}
	for range 20 {
		c, err := client.DialStream(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := <-over; !isTimeout(err) {
			t.Fatalf("Read = %v; want the taker's deadline exceeded", err)
		}
		_ = c.Close()
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func TestOutsidersAtTheSafeDoorAreRefusedCountedAndLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, other := authority(t), authority(t)
		l := bufconn.Listen(64 << 10)
		var log bytes.Buffer
		e := openSafe(t, a, l, &log, nil)
		greeting := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		outsiders := []string{
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\x00", 64), greeting + strings.Repeat("\x00", 64),
			StreamGreeting, "\x16\x03\x01\x00\x05hello", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70_000), "\x17\x03\x03\x00\x10" + strings.Repeat("x", 16),
		}
		for _, said := range outsiders {
			checkRefused(t, l, said, 0)
		}
		for _, said := range []string{"", "\x16\x03\x01\x01\x00half"} {
			checkRefused(t, l, said, greetingTime)
		}
		n := int64(len(outsiders) + 2)
		for name, m := range map[string]*certs.Member{"of another farm": memberOf(t, other, "door"), "without a protocol": memberOf(t, a, "client")} {
			raw, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			protocol := ProtocolCalls
			if name == "without a protocol" {
				protocol = ProtocolStream // that nobody takes here
			}
			if c, _, err := m.Client(t.Context(), raw, "", protocol); err == nil {
				_, err = c.Read(make([]byte, 1))
				if err == nil {
					t.Errorf("a peer %s was let in", name)
				}
			}
			_ = raw.Close()
			n++
		}
		synctest.Wait()
		if got := e.strangers.count.Load(); got != n {
			t.Errorf("%d strangers counted; want %d", got, n)
		}
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("%d lines logged within a minute; want 1:\n%s", got, &log)
		}
		c, err := l.Dial() // who only looks whether the door is open
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		p := safePeers(t, a, "client", l)
		ping(t, p, "door")
		if got := e.strangers.count.Load(); got != n {
			t.Errorf("%d strangers counted after a member came; want %d", got, n)
		}
		p.close()
	})
}

// checkRefused says something at a door that must close the connection within a time, and at once when that is 0.
func checkRefused(t *testing.T, l *bufconn.Listener, said string, within time.Duration) {
	t.Helper()
	c, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	began := time.Now()
	_, _ = io.WriteString(c, said) // the door may close before it has heard all
	_, _ = io.Copy(io.Discard, c)
	if took := time.Since(began); took > within {
		t.Errorf("after %.20q the connection stayed open for %v; want at most %v", said, took, within)
	}
}

func TestAThousandHalfOpenConnectionsDoNotKeepAMemberOut(t *testing.T) {
	a := authority(t)
	l := bufconn.Listen(16 << 10)
	openSafe(t, a, l, io.Discard, nil)
	for range 1000 {
		c, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "\x16\x03\x01\x01\x00half")
	}
	began := time.Now()
	ping(t, safePeers(t, a, "client", l), "door")
	if took := time.Since(began); took > greetingTime {
		t.Errorf("a member was let in after %v beside half-open connections; want it at once", took)
	}
}

func TestAPeerWhoseCertificateIsRefusedIsUnreachable(t *testing.T) {
	for name, reverse := range map[string]bool{"refused here": false, "refused there": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, other := authority(t), authority(t)
				l := bufconn.Listen(64 << 10)
				openSafe(t, a, l, io.Discard, nil)
				var log bytes.Buffer
				e := &Engine{cfg: Default(), log: slog.New(slog.NewTextHandler(&log, nil)), lost: newLostSet(time.Minute)}
				e.peers = safePeers(t, other, "client", l)
				if reverse {
					e.peers.sealer.secure = gullible{memberOf(t, other, "client")}
				}
				e.peers.sealer.refused = e.refusedPeer
				began := time.Now()
				if e.reachable(t.Context(), Node{ID: "door", Address: "door"}) {
					t.Error("a node of another farm is reachable")
				}
				if took := time.Since(began); took > e.cfg.ProbeTimeout {
					t.Errorf("that was known after %v; want at most %v", took, e.cfg.ProbeTimeout)
				}
				if e.peers.accepts(t.Context(), "door") {
					t.Error("accepts = true for a node of another farm")
				}
				if got := strings.Count(log.String(), "\n"); got != 1 || e.unsafePeers.count.Load() < 1 {
					t.Errorf("%d lines logged, %d counted; want 1 line:\n%s", got, e.unsafePeers.count.Load(), &log)
				}
				e.peers.close()
			})
		})
	}
}

// gullible takes everybody at the other end for a member.
type gullible struct{ *certs.Member }

func (g gullible) Client(ctx context.Context, raw net.Conn, _, protocol string) (net.Conn, string, error) {
	cfg := g.Config()
	cfg.NextProtos, cfg.VerifyConnection = []string{protocol}, nil
	c := tls.Client(raw, cfg)
	return c, "whoever", c.HandshakeContext(ctx)
}

func TestAMemberThatIsThereIsReachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t)
		l := bufconn.Listen(64 << 10)
		openSafe(t, a, l, io.Discard, nil)
		e := &Engine{cfg: Default(), lost: newLostSet(time.Minute)}
		e.peers = safePeers(t, a, "client", l)
		if !e.peers.accepts(t.Context(), "door") || !e.reachable(t.Context(), Node{ID: "door", Address: "door"}) {
			t.Error("a member is not reachable")
		}
		if c := e.peers.conns["door"]; c.lastByte.Load() == 0 {
			t.Error("the connection does not know when it brought a byte")
		}
		e.peers.close()
	})
}

func TestOversizedMessagesAndFramesOfAMemberAreRefused(t *testing.T) {
	a := authority(t)
	l := bufconn.Listen(64 << 10)
	openSafe(t, a, l, io.Discard, nil)
	p := safePeers(t, a, "client", l)
	c, err := p.to("door")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Holdings(t.Context(), &transferpb.HoldingsRequest{Digests: []string{strings.Repeat("x", maxMessage+1)}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("Holdings with a message that is too large = %v; want ResourceExhausted", err)
	}
	for name, frame := range map[string][]byte{
		"a large frame":        {0xff, 0xff, 0xff, byte(http2.FrameData), 0, 0, 0, 0, 1},
		"data without a call":  append([]byte{0, 0, 4, byte(http2.FrameData), 0, 0, 0, 0, 0}, 1, 2, 3, 4),
		"a frame of nonsense ": []byte("\x00\x00\x05\x06\x00\x00\x00\x00\x00hello"),
	} {
		raw, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		safe, _, err := memberOf(t, a, "client").Client(t.Context(), raw, "", ProtocolCalls)
		if err != nil {
			t.Fatal(err)
		}
		_ = safe.SetDeadline(time.Now().Add(greetingTime))
		_, _ = safe.Write(append([]byte(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), frame...))
		if _, err := io.Copy(io.Discard, safe); isTimeout(err) {
			t.Errorf("%s left the connection open: %v", name, err)
		}
		_ = raw.Close()
	}
	ping(t, p, "door")
}

func TestSafeIdleConnectionsCostLittle(t *testing.T) {
	const connections = 200
	a, l := authority(t), listenTCP(t)
	openSafe(t, a, l, io.Discard, nil)
	shared := insider(t, a, "client")
	before := inUse()
	for range connections {
		p := newPeers(nil)
		p.sealer = shared
		t.Cleanup(p.close)
		ping(t, p, l.Addr().String())
	}
	each := (inUse() - before) / connections
	t.Logf("%d KiB for both ends of an idle connection", each>>10)
	if most := uint64(160 << 10); each > most {
		t.Errorf("an idle connection takes %d bytes at both ends; want at most %d", each, most)
	}
}
