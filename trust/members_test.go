package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/internal/peerid"
)

func TestMembersKnowEachOtherByTheirCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two — Zürich/4", Expect: func(string) (string, bool) { return "one", true }})
		p := mustConnect(t, second, first)
		if p.dialedID != "one" || p.acceptedID != "two — Zürich/4" || p.protocol != "h2" {
			t.Errorf("Client() = %q, Server() = %q with %q; want one, two — Zürich/4, h2", p.dialedID, p.acceptedID, p.protocol)
		}
		for _, c := range []net.Conn{p.dialed, p.accepted} {
			holder, ok := c.(peerid.Holder)
			if !ok || holder.PeerID() == "" {
				t.Errorf("a connection does not say whose it is")
			}
			state := c.(*liveConn).ConnectionState()
			if state.Version != tls.VersionTLS13 || state.DidResume {
				t.Errorf("TLS version %x, resumed: %v; want 1.3, not resumed", state.Version, state.DidResume)
			}
		}
		if err := p.talks(t); err != nil {
			t.Error(err)
		}
		if n, _ := metric(t, first, "p2pd_trust_connections", ""); n != 1 {
			t.Errorf("p2pd_trust_connections = %v; want 1", n)
		}
		ends := make(chan error, 1)
		go func() {
			_, err := p.accepted.Read(make([]byte, 1))
			ends <- err
		}()
		if err := p.dialed.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ends; err != io.EOF {
			t.Errorf("Read() after the other side has closed = %v; want EOF", err)
		}
		_ = p.accepted.Close()
		_ = p.accepted.Close() // may be called twice
		if first.open.size() != 0 || second.open.size() != 0 {
			t.Errorf("%d and %d connections open after closing; want none", first.open.size(), second.open.size())
		}
	})
}

func TestARevokedNodeIsCutOffAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		stolen, other := member(t, first, Config{Node: "stolen"}), member(t, first, Config{Node: "two"})
		to, from, stays := mustConnect(t, first, stolen), mustConnect(t, stolen, first), mustConnect(t, other, first)
		reading := make(chan error, 1)
		go func() {
			_, err := to.dialed.Read(make([]byte, 1))
			reading <- err
		}()
		synctest.Wait()
		began := time.Now()
		revoke(t, first, "stolen")
		if err := <-reading; err == nil {
			t.Error("reading from a revoked node went on")
		}
		for _, p := range []pair{to, from} {
			if err := p.talks(t); err == nil {
				t.Error("a revoked node was still spoken to")
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("cutting a revoked node off took %s; want no time", took)
		}
		if err := stays.talks(t); err != nil {
			t.Errorf("another member was cut off: %v", err)
		}
		if !first.Revoked("stolen") || first.Revoked("two") || first.open.size() != 1 {
			t.Errorf("Revoked(stolen) = %v, Revoked(two) = %v, %d connections; want true, false, 1",
				first.Revoked("stolen"), first.Revoked("two"), first.open.size())
		}
		if p := connect(t, stolen, first, ""); p.acceptedError == nil {
			t.Error("a revoked node came back")
		}
		if p := connect(t, first, stolen, ""); p.dialError == nil {
			t.Error("a revoked node was dialled")
		}
		if count(first, revokedNode) != 2 {
			t.Errorf("counted %d; want 2", count(first, revokedNode))
		}
	})
}

func TestANodeThatIsRevokedDuringItsHandshakeIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		stolen := member(t, first, Config{Node: "stolen"})
		// The state is taken between the check of the certificate and the end of the handshake.
		p := mustConnect(t, stolen, first)
		c := p.accepted.(*liveConn)
		first.open.remove(c)
		revoke(t, first, "stolen")
		if _, err := first.admit(c.Conn, c.raw, "stolen", c.usage); err == nil || p.talks(t) == nil {
			t.Errorf("admit() of a node that was revoked meanwhile = %v; want it refused and closed", err)
		}
		if first.open.size() != 0 {
			t.Errorf("%d connections left behind", first.open.size())
		}
	})
}

func TestConnectionsEndWithThePeersCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		first := founder(t, Config{Node: "one", Lifetime: 90 * 24 * time.Hour})
		done := make(chan error, 1)
		go func() { done <- first.tend(ctx, nil) }()
		second := member(t, first, Config{Node: "two"})
		p := mustConnect(t, second, first)
		ends := second.Certificate().NotAfter
		time.Sleep(time.Until(ends))
		if err := p.talks(t); err != nil {
			t.Errorf("a connection was closed before the peer's certificate had run out: %v", err)
		}
		time.Sleep(time.Minute)
		if err := p.talks(t); err == nil {
			t.Error("a connection outlived the peer's certificate by a minute")
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("tend() = %v; want %v", err, context.Canceled)
		}
	})
}

func TestARenewedCertificateTakesOverWithoutDroppingAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one", Lifetime: 365 * 24 * time.Hour})
		second := member(t, first, Config{Node: "two"})
		old := second.Certificate()
		p := mustConnect(t, second, first)
		time.Sleep(20 * 24 * time.Hour)
		renew(t, first, second)
		if second.Certificate().NotAfter.Equal(old.NotAfter) {
			t.Fatal("the certificate is still the old one")
		}
		if err := p.talks(t); err != nil {
			t.Errorf("a connection was dropped by a renewal: %v", err)
		}
		later := mustConnect(t, second, first)
		if shown := later.accepted.(*liveConn).chain[0]; !shown.Equal(second.Certificate()) {
			t.Errorf("after the renewal the certificate shown ends at %s; want %s", shown.NotAfter, second.Certificate().NotAfter)
		}
		// The first one goes on past the end of the certificate that it began with: the peer has shown a newer one.
		time.Sleep(time.Until(old.NotAfter.Add(time.Hour)))
		first.sweep(t.Context(), time.Now())
		for _, p := range []pair{p, later} {
			if err := p.talks(t); err != nil {
				t.Errorf("a connection of a renewed member was closed: %v", err)
			}
		}
		time.Sleep(time.Until(second.Certificate().NotAfter.Add(time.Second)))
		first.sweep(t.Context(), time.Now())
		if first.open.size() != 0 {
			t.Errorf("%d connections of a peer whose last certificate has run out; want none", first.open.size())
		}
	})
}

func TestANewerCertificateOfAnotherKeyDoesNotProlongConnections(t *testing.T) {
	l := newLive()
	a, b := pipeConn(t, l, 1), pipeConn(t, l, 2)
	a.chain[0].NotAfter, b.chain[0].NotAfter = time.Unix(100, 0), time.Unix(200, 0)
	l.add(a)
	l.add(b)
	if over := l.runOut(time.Unix(150, 0)); len(over) != 1 || over[0] != a {
		t.Errorf("runOut() = %v; want the connection of the older key alone", over)
	}
}

func TestHandshakesEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		near, far := net.Pipe()
		defer near.Close()
		began := time.Now()
		if _, _, _, err := first.Server(ctx, far); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Server() = %v after %s; want %v after 1s", err, time.Since(began), context.DeadlineExceeded)
		}
		if total(first) != 0 {
			t.Error("what this node has given up was counted as refused")
		}
		near, far = net.Pipe()
		defer near.Close()
		if err := far.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := first.Server(t.Context(), far); err == nil || count(first, tooSlow) != 1 {
			t.Errorf("Server() past the connection's own deadline = %v, %d counted; want it refused", err, count(first, tooSlow))
		}
		near, far = net.Pipe()
		defer near.Close()
		began = time.Now()
		if _, _, err := first.Client(t.Context(), far, "", "h2"); !errors.Is(err, errTooSlow) || time.Since(began) != 5*time.Second {
			t.Errorf("Client() of a silent server = %v after %s; want %v after 5s", err, time.Since(began), errTooSlow)
		}
	})
}

func TestClocksMayDifferByADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		c := first.check(first.view.Load(), identityUsages()[0], 0)
		chain := mustConnect(t, second, first).accepted.(*liveConn).chain
		for behind, good := range map[time.Duration]bool{0: true, 23 * time.Hour: true, 25 * time.Hour: false} {
			if _, err := c.peer(chain, time.Now().Add(-behind)); (err == nil) != good {
				t.Errorf("a new certificate seen by a clock %s behind: %v; want it good: %v", behind, err, good)
			}
		}
	})
}

// A tap keeps what is written through a connection.
type tap struct {
	net.Conn
	written bytes.Buffer
}

func (c *tap) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

func TestRecordsAreFullFromTheFirstOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		near, far := net.Pipe()
		taps := []*tap{{Conn: near}, {Conn: far}}
		accepted := make(chan net.Conn, 1)
		go func() {
			c, _, _, _ := first.Server(t.Context(), taps[1])
			accepted <- c
		}()
		dialed, _, err := second.Client(t.Context(), taps[0], "", "pullonce-raft/1")
		if err != nil {
			t.Fatal(err)
		}
		ends := []net.Conn{dialed, <-accepted}
		for i, c := range ends {
			taps[i].written.Reset()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.ReadFull(ends[1-i], make([]byte, 64<<10))
			}()
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
			<-done
			if n := binary.BigEndian.Uint16(taps[i].written.Bytes()[3:]); n < 16<<10 {
				t.Errorf("the first record of end %d has %d bytes; want 16 KiB and its frame", i, n)
			}
		}
		for _, c := range ends {
			c.(*liveConn).cut()
		}
	})
}
