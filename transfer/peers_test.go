package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// open serves a peer door that answers Ping.
func open(t *testing.T, l net.Listener, log io.Writer) *Engine {
	t.Helper()
	return openWith(t, l, log, nil)
}

// openWith is open with a taker of streams.
func openWith(t *testing.T, l net.Listener, log io.Writer, streams func(net.Conn)) *Engine {
	t.Helper()
	e := &Engine{cfg: Default(), log: slog.New(slog.NewTextHandler(log, nil)), streams: streams}
	serveDoor(t, e, l)
	return e
}

// serveDoor serves an engine to peers until the test ends.
func serveDoor(t *testing.T, e *Engine, l net.Listener) {
	t.Helper()
	e.cfg.Self = Node{ID: "door", Address: l.Addr().String()}
	s := grpc.NewServer(e.ServerOptions()...)
	e.Attach(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(Listener(l)) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
}

func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ping(t *testing.T, p *peers, address string) {
	t.Helper()
	c, err := p.to(address)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Ping(t.Context(), &transferpb.PingRequest{}); err != nil || r.GetNode() != "door" {
		t.Fatalf("Ping = %v, %v; want the node's answer", r, err)
	}
}

func TestNoConnectionIsOpenedOnceAllAreClosed(t *testing.T) {
	p := newPeers(nil)
	p.close()
	if _, err := p.to("127.0.0.1:1"); !errors.Is(err, ErrStopped) {
		t.Errorf("to = %v after close; want %v", err, ErrStopped)
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	for range 3 { // what a pool keeps is gone after two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	const connections = 200
	l := listenTCP(t)
	open(t, l, io.Discard)
	before := inUse()
	for range connections {
		p := newPeers(nil)
		t.Cleanup(p.close)
		ping(t, p, l.Addr().String())
	}
	each := (inUse() - before) / connections
	t.Logf("%d KiB for both ends of an idle connection", each>>10)
	if most := uint64(128 << 10); each > most {
		t.Errorf("an idle connection takes %d bytes at both ends; want at most %d", each, most)
	}
}

// A countedConn is counted as long as it is open.
type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

func TestAConnectionThatNobodyUsesIsClosedAndOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		open(t, l, io.Discard)
		var conns atomic.Int64
		p := newPeers(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := l.DialContext(ctx)
			conns.Add(1)
			return &countedConn{Conn: c, open: &conns}, err
		})
		t.Cleanup(p.close)
		ping(t, p, "door")
		time.Sleep(idle / 2)
		if got := conns.Load(); got != 1 {
			t.Errorf("%d connections are open while it is in use; want 1", got)
		}
		time.Sleep(idle)
		synctest.Wait()
		if got := conns.Load(); got != 0 {
			t.Errorf("%d connections are open after %v without use; want none", got, idle)
		}
		ping(t, p, "door")
	})
}

func TestAClientThatSaysNothingIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		e := open(t, l, io.Discard)
		for _, said := range []string{"", "PRI * HTTP/2.0\r\n"} {
			c, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, said); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, _ = io.Copy(io.Discard, c)
			if took := time.Since(began); took > greetingTime {
				t.Errorf("after %q the connection stayed open for %v; want at most %v", said, took, greetingTime)
			}
			_ = c.Close()
		}
		if got := e.strangers.count.Load(); got != 2 {
			t.Errorf("%d strangers counted; want 2", got)
		}
	})
}

func TestGarbageAtThePeerDoorIsCountedAndLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		var log bytes.Buffer
		e := open(t, l, &log)
		greeting := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		garbage := []string{
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\x00", 64), greeting + strings.Repeat("x", 64),
			greeting + "\xff\xff\xff\x00\x00\x00\x00\x00\x01", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("t", 64),
		}
		for _, text := range garbage {
			c, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, _ = io.Copy(io.Discard, c)
			if took := time.Since(began); took > 0 {
				t.Errorf("%.30q: the connection stayed open for %v; want it closed at once", text, took)
			}
			_ = c.Close()
		}
		synctest.Wait()
		if got := e.strangers.count.Load(); got != int64(len(garbage)) {
			t.Errorf("%d strangers counted; want %d", got, len(garbage))
		}
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("%d lines logged within a minute; want 1:\n%s", got, &log)
		}
		c, err := l.Dial() // who only looks whether the door is open
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		time.Sleep(strangersEvery)
		c, err = l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, garbage[0])
		_, _ = io.Copy(io.Discard, c)
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got != 2 || e.strangers.count.Load() != int64(len(garbage))+1 {
			t.Errorf("%d lines and %d strangers a minute later; want 2 and %d:\n%s", got, e.strangers.count.Load(), len(garbage)+1, &log)
		}
	})
}

func TestOnePeerCannotOpenCallsWithoutEnd(t *testing.T) {
	l := listenTCP(t)
	open(t, l, io.Discard)
	p := newPeers(nil)
	t.Cleanup(p.close)
	c, err := p.to(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range maxStreams {
		if _, err := c.Register(ctx); err != nil { // which the node answers nothing, as it is asked nothing
			t.Fatal(err)
		}
	}
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	if _, err := c.Ping(short, &transferpb.PingRequest{}); err == nil {
		t.Errorf("a call beyond %d was taken", maxStreams)
	}
	other := newPeers(nil)
	t.Cleanup(other.close)
	ping(t, other, l.Addr().String())
}
