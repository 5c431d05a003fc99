package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// visit is a client of at's registry that trusts the farm's authorities and asks by name.
func visit(t *testing.T, at *Trust, name string) (client, server *tls.Conn, err error) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(at.AuthoritiesPEM()) {
		t.Fatalf("AuthoritiesPEM() of %s = %q; want a certificate", at.Node(), at.AuthoritiesPEM())
	}
	between := bufconn.Listen(1 << 16) // who refuses speaks while the other side does
	t.Cleanup(func() { _ = between.Close() })
	accepted := make(chan *tls.Conn, 1)
	go func() {
		far, err := between.Accept()
		if err != nil {
			return
		}
		server := tls.Server(far, &tls.Config{GetCertificate: at.DoorCertificate})
		accepted <- server
		_ = server.HandshakeContext(t.Context())
	}()
	near, err := between.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _, _ = near.Close(), server.NetConn().Close() })
	client = tls.Client(near, &tls.Config{RootCAs: roots, ServerName: name})
	return client, server, client.HandshakeContext(t.Context())
}

func TestARegistryShowsACertificateForItsNamesAlone(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		for _, h := range all {
			if _, _, err := visit(t, h.Trust, "farm.internal"); err == nil {
				t.Fatalf("%s has shown a certificate before there was one", h.id)
			}
			if err := h.ServeAs([]string{"FARM.internal", "10.0.0.7", "::ffff:10.0.0.7", "fd00::7", "my_host", "localhost"}); err != nil {
				t.Fatalf("ServeAs = %v", err)
			}
			w.eventually(10*time.Second, "a certificate for the registry of "+h.id, func() bool { return h.serving.pair.Load() != nil })
			for _, name := range []string{"farm.internal", "my_host", "localhost", "10.0.0.7", "fd00::7"} {
				if _, _, err := visit(t, h.Trust, name); err != nil {
					t.Errorf("a client that asks %s by %s = %v; want a connection", h.id, name, err)
				}
			}
			for _, name := range []string{"other", "10.0.0.8", "x.farm.internal"} {
				if _, _, err := visit(t, h.Trust, name); err == nil {
					t.Errorf("a client that asks %s by %s has a connection", h.id, name)
				}
			}
			leaf := h.serving.pair.Load().Leaf
			if len(leaf.URIs) != 0 || leaf.Subject.CommonName != "" || leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
				t.Errorf("certificate of %s: URIs %v, name %q, authority %v, for %v; want one for servers that names no node",
					h.id, leaf.URIs, leaf.Subject.CommonName, leaf.IsCA, leaf.ExtKeyUsage)
			}
			if got := leaf.NotAfter.Sub(leaf.NotBefore); got != 31*day {
				t.Errorf("certificate of %s is good for %v; want 30 days from a day ago", h.id, got)
			}
			info, err := os.Stat(filepath.Join(h.dir, "trust", registryFile))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s = %v, %v; want it for its user alone", registryFile, info, err)
			}
		}
		if log := w.logged(); !strings.Contains(log, `"certificate made for a registry" peer=b names="[farm.internal localhost my_host 10.0.0.7 fd00::7]"`) {
			t.Errorf("the voter's log does not tell who got which names:\n%s", log)
		}
	})
}

func TestAStartedNodeShowsItsRegistrysCertificateWithoutTheFarm(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		b := w.farm(1, "a", "b")[1]
		if err := b.ServeAs([]string{"b.lan"}); err != nil {
			t.Fatal(err)
		}
		w.eventually(10*time.Second, "a certificate", func() bool { return b.serving.pair.Load() != nil })
		serial := b.serving.pair.Load().Leaf.SerialNumber
		w.up("a").down()
		b = b.restart()
		if err := b.ServeAs([]string{"b.lan"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, _, err := visit(t, b.Trust, "b.lan"); err != nil || b.serving.pair.Load().Leaf.SerialNumber.Cmp(serial) != 0 {
			t.Errorf("a client after a restart without the farm = %v; want the certificate from before", err)
		}
		// For other names there is none without a voter; what was shown is shown on.
		if err := b.ServeAs([]string{"b.lan", "new.lan"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, _, err := visit(t, b.Trust, "b.lan"); err != nil {
			t.Errorf("a client by the old name = %v; want a connection", err)
		}
		w.up("b").town.houses["a"].restart()
		w.eventually(5*time.Minute, "a certificate for the new name", func() bool {
			_, _, err := visit(t, b.Trust, "new.lan")
			return err == nil
		})
	})
}

func TestWithoutAQuorumNoRegistryGetsACertificate(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		w.mu.Lock()
		w.cut = true
		w.mu.Unlock()
		for _, h := range all {
			if err := h.ServeAs([]string{"farm.internal"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		for _, h := range all {
			if _, err := h.DoorCertificate(nil); !errors.Is(err, errNothingToShow) {
				t.Errorf("DoorCertificate of %s without a quorum = %v; want %v", h.id, err, errNothingToShow)
			}
		}
		if n := strings.Count(w.logged(), `level=WARN msg="no certificate for the registry"`); n != 2 {
			t.Errorf("%d warnings; want one of each node", n)
		}
		w.mu.Lock()
		w.cut = false
		w.mu.Unlock()
		for _, h := range all {
			w.eventually(2*time.Minute, "a certificate for "+h.id, func() bool { _, err := h.DoorCertificate(nil); return err == nil })
		}
	})
}

func TestARegistrysCertificateIsRenewedAndConnectionsStay(t *testing.T) {
	inTown(t, Config{Lifetime: 6 * time.Hour, Back: time.Hour}, func(t *testing.T, w *town) {
		b := w.farm(1, "a", "b")[1]
		if err := b.ServeAs([]string{"b.lan"}); err != nil {
			t.Fatal(err)
		}
		w.eventually(10*time.Second, "a certificate", func() bool { return b.serving.pair.Load() != nil })
		before := b.serving.pair.Load()
		client, server, err := visit(t, b.Trust, "b.lan")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(4*time.Hour - time.Minute)
		if b.serving.pair.Load() != before {
			t.Error("renewed before two thirds")
		}
		w.eventually(time.Hour, "renewed", func() bool { return b.serving.pair.Load() != before })
		after := b.serving.pair.Load()
		if keyPrintOf(after.Leaf) == keyPrintOf(before.Leaf) || !after.Leaf.NotAfter.After(before.Leaf.NotAfter) {
			t.Errorf("renewed until %v with the same key: %v; want later, and another", after.Leaf.NotAfter, keyPrintOf(after.Leaf) == keyPrintOf(before.Leaf))
		}
		go func() { _, _ = client.Write([]byte("x")) }()
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			t.Errorf("the connection from before = %v; want it open", err)
		}
		w.up("a").down()
		time.Sleep(7 * time.Hour)
		if _, err := b.DoorCertificate(nil); err == nil || !strings.Contains(err.Error(), "has run out") {
			t.Errorf("DoorCertificate after its end = %v; want a refusal", err)
		}
	})
}

// A registry's certificate passes for a member's nowhere: not at the peer door, not at the join door, from neither side, and
// not as a node's own.
func TestARegistrysCertificateMakesNoMember(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		if err := a.ServeAs([]string{"a", "farm.internal"}); err != nil {
			t.Fatal(err)
		}
		w.eventually(10*time.Second, "a certificate", func() bool { return a.serving.pair.Load() != nil })
		pair := a.serving.pair.Load()
		shows := func(c *tls.Config) { c.Certificates = []tls.Certificate{*pair} }
		near, far := net.Pipe()
		go func() { _ = outsider(t.Context(), near, shows) }()
		if _, id, _, err := a.Server(t.Context(), far); err == nil {
			t.Errorf("the peer door has let %q in", id)
		}
		near, far = net.Pipe()
		go func() {
			_ = outsider(t.Context(), near, func(c *tls.Config) { shows(c); c.NextProtos = []string{ProtocolJoin} })
		}()
		if c, err := a.acceptDoor(t.Context(), far); err == nil {
			if _, err := a.memberNow(applicant{leaf: c.Peer}); err == nil {
				t.Error("the join door takes the certificate for a member's")
			}
		}
		near, far = net.Pipe()
		go func() {
			server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*pair}, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert})
			_ = server.HandshakeContext(t.Context())
		}()
		if _, id, err := a.Client(t.Context(), near, "nowhere", "h2"); err == nil {
			t.Errorf("a member took who shows it for %q", id)
		}
		if count(a.Trust, badCertificate)+count(a.Trust, wrongAuthority) < 2 {
			t.Errorf("%d refusals; want both doors' at least", total(a.Trust))
		}
		if err := a.SetCertificate(pair.Certificate); err == nil {
			t.Error("a node took it for its own")
		}
		for _, usage := range identityUsages() {
			for _, lax := range []bool{false, true} {
				c := check{farm: testFarm, roots: a.view.Load().roots, lax: lax, usage: usage, grace: runsForever}
				if id, err := c.peer([]*x509.Certificate{pair.Leaf}, time.Now()); err == nil {
					t.Errorf("check for %v, lax %v, takes it for %q", usage, lax, id)
				}
			}
		}
	})
}

func TestOnlyMembersThatCallGetCertificatesForRegistries(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "bad")
		q := serveQuestion(t, "b.lan")
		s, err := all[0].signer()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all[0].answer(t.Context(), s, q, applicant{leaf: all[1].Certificate()}); !errors.Is(err, ErrBadRequest) {
			t.Errorf("answer to nobody that calls = %v; want ErrBadRequest", err)
		}
		// Through a join door it would be asked in the name of the member that passes it on.
		for _, at := range []string{"a", "b"} {
			if _, _, err := all[2].askDoor(t.Context(), at, q, all[2].dialDoorToRenew); err == nil {
				t.Errorf("the join door of %s has answered", at)
			}
		}
		if _, err := all[1].askVoters(t.Context(), q, applicant{}); err != nil {
			t.Errorf("a member's question = %v; want an answer", err)
		}
		if err := all[0].Revoke(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		if _, err := all[0].answer(t.Context(), s, q, applicant{caller: "bad"}); !errors.Is(err, ErrRevoked) {
			t.Errorf("answer to a revoked node = %v; want ErrRevoked", err)
		}
		refused := 0
		for range 2 * servesBurst {
			if _, err := all[0].answer(t.Context(), s, q, applicant{caller: "b"}); errors.Is(err, errBusy) {
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("%d certificates at once; want a bound", 2*servesBurst)
		}
	})
}

func serveQuestion(t *testing.T, list ...string) *trustpb.Question {
	t.Helper()
	n, err := parseNames(list)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := makeServeRequest(n, registryKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return &trustpb.Question{Kind: &trustpb.Question_Serve_{Serve: &trustpb.Question_Serve{Request: csr}}}
}
