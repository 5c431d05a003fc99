package transfer

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// echoed says hello on a stream in several writes and wants the taker to read just what came after the greeting.
func echoed(t *testing.T, dial func() (net.Conn, error), taken <-chan net.Conn, writes ...string) (here, there net.Conn) {
	t.Helper()
	here, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, text := range writes {
			_, _ = io.WriteString(here, text)
		}
	}()
	there = <-taken
	front := make([]byte, len("after it"))
	if _, err := io.ReadFull(there, front); err != nil || string(front) != "after it" {
		t.Fatalf("ReadFull = %q, %v; want what came after the greeting", front, err)
	}
	return here, there
}

func TestAStreamIsHandedOnWithoutItsGreeting(t *testing.T) {
	for _, writes := range [][]string{
		{StreamGreeting + "after it"},
		{StreamGreeting, "after it"},
		{"STR", StreamGreeting[3:] + "af", "ter it"},
	} {
		taken := make(chan net.Conn, 1)
		l := listenTCP(t)
		e := openWith(t, l, io.Discard, func(c net.Conn) { taken <- c })
		here, there := echoed(t, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, taken, writes...)
		checkStream(t, here, there)
		p := newPeers(nil)
		ping(t, p, l.Addr().String())
		p.close()
		if n := e.strangers.count.Load(); n != 0 {
			t.Errorf("%d strangers counted; want none", n)
		}
	}
}

func TestAStreamOverAPipeIsHandedOnToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := make(chan net.Conn, 1)
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		openWith(t, l, io.Discard, func(c net.Conn) { taken <- c })
		here, there := echoed(t, l.dial, taken, StreamGreeting+"after it")
		checkStream(t, here, there)
	})
}

// checkStream wants both directions, deadlines and the end to be the connection's own.
func checkStream(t *testing.T, here, there net.Conn) {
	t.Helper()
	go func() { _, _ = io.WriteString(there, "back") }()
	back := make([]byte, 4)
	if _, err := io.ReadFull(here, back); err != nil || string(back) != "back" {
		t.Errorf("ReadFull = %q, %v; want what the taker wrote", back, err)
	}
	if err := there.SetDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := there.Read(back); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > greetingTime {
		t.Errorf("Read past its deadline = %v after %v; want it exceeded in time", err, time.Since(began))
	}
	if err := there.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := there.Close(); err != nil {
		t.Error(err)
	}
	if _, err := here.Read(back); !errors.Is(err, io.EOF) {
		t.Errorf("Read after the taker's Close = %v; want the end", err)
	}
	_ = here.Close()
}

func TestADeadlineSetAtOnceOnAStreamStays(t *testing.T) {
	for range 50 {
		over := make(chan error, 1)
		l := listenTCP(t)
		openWith(t, l, io.Discard, func(c net.Conn) {
			_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
			go func() {
				defer func() { _ = c.Close() }()
				_, err := c.Read(make([]byte, 1))
				over <- err
			}()
		})
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, StreamGreeting)
		if err := <-over; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Read = %v; want the taker's deadline exceeded", err)
		}
		_ = c.Close()
	}
}

func TestAStreamLivesLongerThanAGreetingMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := make(chan net.Conn, 1)
		l := bufconn.Listen(64 << 10)
		openWith(t, l, io.Discard, func(c net.Conn) { taken <- c })
		here, there := echoed(t, l.Dial, taken, StreamGreeting, "after it")
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

func TestAStreamIsAStrangerWhereNobodyTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		e := open(t, l, io.Discard)
		c, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, StreamGreeting)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
		_ = c.Close()
		synctest.Wait()
		if n := e.strangers.count.Load(); n != 1 {
			t.Errorf("%d strangers counted; want the one", n)
		}
	})
}

// pipeListener gives out ends of net.Pipe.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) dial() (net.Conn, error) {
	here, there := net.Pipe()
	l.conns <- there
	return here, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
