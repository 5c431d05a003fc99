package gossip_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pullonce/pullonce/gossip"
)

func sealedConfig(id string, seeds ...string) gossip.Config {
	cfg := realConfig(id, seeds...)
	cfg.Keys = [][]byte{key(1)}
	return cfg
}

// dialFrom opens a connection from one of the loopback's addresses. It is nil when it was refused while it was opened.
func dialFrom(t *testing.T, from, to string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", to)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ended waits until the other side has closed a connection; false when it has not until then.
func ended(t *testing.T, conn net.Conn, until time.Time) bool {
	t.Helper()
	if conn == nil {
		return true
	}
	if err := conn.SetReadDeadline(until); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 100))
	if n > 0 {
		t.Errorf("a stranger was answered with %d bytes; want none", n)
	}
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func TestATLSConnectionComesToTheDoorWhole(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	certificate := selfSigned(t)
	served := make(chan error, 100)
	cfg := sealedConfig("a")
	cfg.Door = func(conn net.Conn) {
		go func() {
			c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
			_, err := io.Copy(c, io.LimitReader(c, 5))
			served <- errors.Join(err, c.Close(), conn.Close())
		}()
	}
	a, stop := runReal(t, cfg, slog.New(slog.DiscardHandler))
	defer stop()
	for range 40 { // more than may wait at one time from one address
		conn := dialFrom(t, "127.0.0.1", a.Self().GossipAddr)
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 5)
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "hello" {
			t.Fatalf("the door answered %q, %v; want hello", answer, err)
		}
		_ = conn.Close()
	}
	for range 40 {
		<-served
	}
	if got := a.Refused(); got != 0 {
		t.Errorf("Refused() = %d; want 0", got)
	}
}

func TestATLSConnectionWithoutADoorIsClosed(t *testing.T) {
	a, _ := runReal(t, sealedConfig("a"), slog.New(slog.DiscardHandler))
	conn := dialFrom(t, "127.0.0.1", a.Self().GossipAddr)
	if _, err := conn.Write([]byte{0x16, 3, 1}); err != nil {
		t.Fatal(err)
	}
	if !ended(t, conn, time.Now().Add(5*time.Second)) || a.Refused() != 1 {
		t.Errorf("a TLS connection was kept open, or not counted: Refused() = %d; want 1", a.Refused())
	}
}

func TestWhatIsNoGossipOfTheFarmIsClosedWithoutAnAnswer(t *testing.T) {
	a, _ := runReal(t, sealedConfig("a"), slog.New(slog.DiscardHandler))
	frame := func(size uint32, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{10}, size), body...)
	}
	for what, begin := range map[string][]byte{
		"plain gossip":           {6, 1, 2, 3},
		"HTTP":                   []byte("GET / HTTP/1.0\r\n\r\n"),
		"an oversized frame":     frame(1<<32-1, nil),
		"a frame of 9 MiB":       frame(9<<20, nil),
		"a frame without a seal": frame(100, bytes.Repeat([]byte{1}, 100)),
		"an empty frame":         frame(0, nil),
		"a frame cut short":      frame(1<<20, make([]byte, 1000)),
		"a head cut short":       {10, 0},
	} {
		before, began := a.Refused(), time.Now()
		conn := dialFrom(t, "127.0.0.1", a.Self().GossipAddr)
		if _, err := conn.Write(begin); err != nil {
			t.Fatal(err)
		}
		if !ended(t, conn, time.Now().Add(5*time.Second)) {
			t.Errorf("%s: the connection was kept open", what)
		}
		if !strings.Contains(what, "short") && time.Since(began) > 500*time.Millisecond {
			t.Errorf("%s: closed after %v; want at once", what, time.Since(began))
		}
		within(t, 5*time.Second, what+" is counted", func() bool { return a.Refused() == before+1 })
		_ = conn.Close()
	}
}

func TestConnectionsThatSayNothingAreBounded(t *testing.T) {
	a, _ := runReal(t, sealedConfig("a"), slog.New(slog.DiscardHandler))
	address := a.Self().GossipAddr
	var one []net.Conn
	began := time.Now()
	for range 40 {
		one = append(one, dialFrom(t, "127.0.0.2", address))
	}
	within(t, 5*time.Second, "eight of forty from one address are refused", func() bool { return a.Refused() >= 8 })
	if time.Since(began) < 900*time.Millisecond && a.Refused() != 8 {
		t.Errorf("Refused() = %d; want 8, the others may speak yet", a.Refused())
	}
	closed := 0
	for _, conn := range one {
		if ended(t, conn, time.Now().Add(5*time.Second)) {
			closed++
		}
	}
	if took := time.Since(began); closed != 40 || took < 900*time.Millisecond {
		t.Errorf("%d of 40 were closed after %v; want all, those that had a place after a second", closed, took)
	}
	before := a.Refused()
	for i := range 300 {
		dialFrom(t, fmt.Sprintf("127.0.1.%d", i/20), address)
	}
	within(t, 5*time.Second, "all but 256 are refused", func() bool { return a.Refused() >= before+44 })
	within(t, 5*time.Second, "all are", func() bool { return a.Refused() == before+300 })
}

// halfOpen is how many connections this process can hold open beside its own.
func halfOpen(t *testing.T, want int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return min(want, int(limit.Cur)-1000)
}

func TestHalfOpenConnectionsDoNotDisturbTheFarm(t *testing.T) {
	n := halfOpen(t, 10_000)
	if testing.Short() {
		n = halfOpen(t, 2000)
	}
	a, _ := runReal(t, sealedConfig("a"), slog.New(slog.DiscardHandler))
	b, _ := runReal(t, sealedConfig("b", a.Self().GossipAddr), slog.New(slog.DiscardHandler))
	c, _ := runReal(t, sealedConfig("c", a.Self().GossipAddr), slog.New(slog.DiscardHandler))
	know := func() bool { return aliveCount(a) == 3 && aliveCount(b) == 3 && aliveCount(c) == 3 }
	within(t, 10*time.Second, "three know each other", know)
	began := time.Now()
	for i := range n {
		conn := dialFrom(t, fmt.Sprintf("127.0.2.%d", i%250), a.Self().GossipAddr)
		if conn != nil && i%3 == 0 { // some say a little
			_, _ = conn.Write([]byte{10, 0, 0})
		}
		if i%500 == 0 {
			epoch := uint64(i + 1)
			if err := b.UpdateSelf(func(m *gossip.Member) { m.Epoch = epoch }); err != nil {
				t.Fatal(err)
			}
			within(t, 5*time.Second, "news get through", func() bool {
				here, _ := a.Member("b")
				there, _ := c.Member("b")
				return here.Epoch == epoch && there.Epoch == epoch
			})
		}
		if !know() {
			t.Fatalf("a member was lost after %d half-open connections", i)
		}
	}
	t.Logf("%d half-open connections in %v", n, time.Since(began))
	within(t, 10*time.Second, "all of them are refused in the end", func() bool { return a.Refused() >= int64(n) })
	_, _ = runReal(t, sealedConfig("d", a.Self().GossipAddr), slog.New(slog.DiscardHandler))
	within(t, 10*time.Second, "another one joins", func() bool { return aliveCount(c) == 4 })
}
