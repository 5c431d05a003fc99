package trust

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const testFarm = "test farm"

// open opens a node's trust in an empty directory.
func open(t testing.TB, cfg Config) *Trust {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Farm == "" {
		cfg.Farm = testFarm
	}
	m, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// founder is the first node of a farm.
func founder(t testing.TB, cfg Config) *Trust {
	t.Helper()
	m := open(t, cfg)
	if err := m.Found(); err != nil {
		t.Fatal(err)
	}
	return m
}

// member is a node that the founder has made a member.
func member(t testing.TB, first *Trust, cfg Config) *Trust {
	t.Helper()
	m := open(t, cfg)
	if _, err := m.SetState(first.State()); err != nil {
		t.Fatal(err)
	}
	renew(t, first, m)
	return m
}

// renew gives m a new certificate from the founder.
func renew(t testing.TB, first, m *Trust) {
	t.Helper()
	if err := m.SetCertificate(certify(t, first, m, m.cfg)); err != nil {
		t.Fatal(err)
	}
}

// certify is a certificate of the founder's authority for m, made as cfg says.
func certify(t testing.TB, first, m *Trust, cfg Config) [][]byte {
	t.Helper()
	der, err := m.request()
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := authority(t, first).issue(r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// authority is the founder's.
func authority(t testing.TB, first *Trust) *issuer {
	t.Helper()
	k, ok, err := first.sealKey()
	if err != nil || !ok {
		t.Fatalf("sealKey() = %v, %v; want one", ok, err)
	}
	sealed, err := first.sealedIssuer()
	if err != nil {
		t.Fatal(err)
	}
	i, err := unsealIssuer(k, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// revoke is the farm's next state, in which a node is revoked.
func revoke(t testing.TB, at *Trust, id string) {
	t.Helper()
	s := at.State()
	s.Epoch++
	if s.Revoked == nil {
		s.Revoked = make(map[string]time.Time)
	}
	s.Revoked[id] = time.Now()
	if changed, err := at.SetState(s); err != nil || !changed {
		t.Fatalf("SetState(epoch %d) = %v, %v; want a change", s.Epoch, changed, err)
	}
}

// pair is what became of a connection at both ends.
type pair struct {
	dialed, accepted         net.Conn
	dialedID, acceptedID     string
	protocol                 string
	dialError, acceptedError error
}

// connect makes a connection from client to server at address.
func connect(t testing.TB, client, server *Trust, address string) pair {
	t.Helper()
	near, far := net.Pipe()
	var p pair
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.accepted, p.acceptedID, p.protocol, p.acceptedError = server.Server(t.Context(), far)
	}()
	p.dialed, p.dialedID, p.dialError = client.Client(t.Context(), near, address, "h2")
	<-done
	t.Cleanup(func() {
		for _, c := range []net.Conn{near, far} {
			_ = c.Close()
		}
	})
	return p
}

// mustConnect is connect between members that get through.
func mustConnect(t testing.TB, client, server *Trust) pair {
	t.Helper()
	p := connect(t, client, server, server.Node())
	if p.dialError != nil || p.acceptedError != nil {
		t.Fatalf("%s to %s: Client = %v, Server = %v; want a connection", client.Node(), server.Node(), p.dialError, p.acceptedError)
	}
	return p
}

// close ends both ends without waiting for either.
func (p pair) close() {
	p.dialed.(*liveConn).cut()
	p.accepted.(*liveConn).cut()
}

// talks tells whether bytes get from one end to the other and back.
func (p pair) talks(t testing.TB) error {
	t.Helper()
	for _, way := range [][2]net.Conn{{p.dialed, p.accepted}, {p.accepted, p.dialed}} {
		sent := make(chan error, 1)
		go func() {
			_, err := way[0].Write([]byte("hello"))
			sent <- err
		}()
		_, err := io.ReadFull(way[1], make([]byte, 5))
		if err := <-sent; err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count is how many a Trust has refused for a reason.
func count(t *Trust, why reason) int64 { return t.refused.counts[why].Load() }

// total is how many it has refused at all.
func total(t *Trust) (n int64) {
	for _, c := range t.refused.counts {
		n += c.Load()
	}
	return n
}

// metric is the value of a gauge or counter of t, by its name and at most one label.
func metric(t testing.TB, of *Trust, name, label string) (value float64, ok bool) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(of.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

// outsider does a handshake as TLS lets anybody do it, with whatever certificate.
func outsider(ctx context.Context, raw net.Conn, change func(*tls.Config)) error {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	change(config)
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1)) // in TLS 1.3 the server's refusal comes after the client is done
	return err
}
