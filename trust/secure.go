package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// memberProtocols are what members speak to each other over the peer door, as ALPN names it.
var memberProtocols = []string{"h2", "pullonce-raft/1"}

// Server does the handshake of a connection that came to the peer door. id is the caller's, by its certificate; protocol
// is what it asked for. It ends when ctx does, at raw's deadlines, and after Config.HandshakeTimeout. With an error raw is
// closed.
//
// A caller that has asked for no protocol that is spoken here, has no certificate of a member, or is revoked, is refused
// and counted.
func (t *Trust) Server(ctx context.Context, raw net.Conn) (c net.Conn, id, protocol string, err error) {
	own := t.own.Load()
	if !own.good(time.Now()) {
		_ = raw.Close()
		return nil, "", "", ErrNotMember
	}
	verify := func(state tls.ConnectionState) (err error) {
		id, err = t.check(t.view.Load(), x509.ExtKeyUsageClientAuth, 0).peer(state.PeerCertificates, time.Now())
		return err
	}
	conn, err := t.accept(ctx, raw, t.peers, terms{pair: &own.pair, protocols: memberProtocols, verify: verify})
	if err != nil {
		return nil, "", "", err
	}
	live, err := t.admit(conn, raw, id, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, "", "", err
	}
	return live, id, live.protocol, nil
}

// Client does the handshake of a connection to the peer door at address, for protocol. id is the peer's, by its
// certificate; when Config.Expect knows who should be there, another one is refused. It ends when ctx does, at raw's
// deadlines, and after Config.HandshakeTimeout. With an error raw is closed.
//
// The peer may still refuse this node after Client has returned: reading tells then.
func (t *Trust) Client(ctx context.Context, raw net.Conn, address, protocol string) (c net.Conn, id string, err error) {
	own := t.own.Load()
	if !own.good(time.Now()) {
		_ = raw.Close()
		return nil, "", ErrNotMember
	}
	verify := func(state tls.ConnectionState) (err error) {
		id, err = t.check(t.view.Load(), x509.ExtKeyUsageServerAuth, 0).peer(state.PeerCertificates, time.Now())
		if err != nil {
			return err
		}
		return t.expected(address, id)
	}
	conn, err := t.dial(ctx, raw, &own.pair, protocol, verify)
	if err != nil {
		return nil, "", err
	}
	live, err := t.admit(conn, raw, id, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, "", err
	}
	return live, id, nil
}

// check is what peers' certificates are held against under v.
func (t *Trust) check(v *view, usage x509.ExtKeyUsage, grace time.Duration) check {
	own := t.own.Load()
	lax := t.cfg.Mode == Own && (own == nil || !own.named)
	return check{farm: t.cfg.Farm, roots: v.roots, state: v.State, back: t.cfg.Back, lax: lax, usage: usage, grace: grace}
}

// expected refuses a member that is not the one who should be at address.
func (t *Trust) expected(address, id string) error {
	if t.cfg.Expect == nil {
		return nil
	}
	if want, ok := t.cfg.Expect(address); ok && want != id {
		return refuse(wrongNode, fmt.Errorf("certificate of %.64q at %s, which is %.64q's", id, address, want))
	}
	return nil
}

// admit takes a connection among those that are open. Who was revoked during the handshake is found here, or by whoever
// takes the new state: the state is looked at after the connection can be seen.
func (t *Trust) admit(conn *tls.Conn, raw net.Conn, id string, usage x509.ExtKeyUsage) (*liveConn, error) {
	state := conn.ConnectionState()
	c := &liveConn{
		Conn: conn, raw: raw, id: id, protocol: state.NegotiatedProtocol, chain: state.PeerCertificates,
		usage: usage, key: keyPrintOf(state.PeerCertificates[0]), list: t.open,
	}
	t.open.add(c)
	if t.Revoked(id) {
		c.cut()
		err := refuse(revokedNode, fmt.Errorf("node %.64q is revoked", id))
		t.refused.count(revokedNode, raw.RemoteAddr(), err)
		return nil, err
	}
	return c, nil
}

// terms are what the server's half of a handshake goes by.
type terms struct {
	pair      *tls.Certificate
	protocols []string                        // one of them must be asked for
	verify    func(tls.ConnectionState) error // judges what the other side has shown, which may be nothing
}

// accept does the server's half of a handshake. It is bounded in number by room, and in time. With an error raw is closed
// and the refusal counted.
func (t *Trust) accept(ctx context.Context, raw net.Conn, room *handshakes, by terms) (*tls.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, ok := room.enter(addressOf(raw), cancel)
	if !ok {
		return nil, t.refusedAt(raw, refuse(noRoom, errNoRoom))
	}
	defer room.leave(s)
	ctx, stop := context.WithTimeoutCause(ctx, t.cfg.HandshakeTimeout, errTooSlow)
	defer stop()

	// The verdict is why this side refuses. TLS may have another error in the end, if the other side does not listen to it.
	var verdict error
	verify := by.verify
	by.verify = func(state tls.ConnectionState) error {
		verdict = verify(state)
		return verdict
	}
	config := by.config()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		room.heard(s)
		if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			verdict = refuse(oldVersion, errors.New("does not speak TLS 1.3"))
			return nil, nil //nolint:nilnil // the same configuration: TLS itself refuses, with the alert that says why
		}
		if !slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(by.protocols, p) }) {
			verdict = refuse(noProtocol, errors.New("asks for no protocol that is spoken here"))
			return nil, verdict
		}
		return nil, nil //nolint:nilnil // the same configuration
	}
	conn := tls.Server(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, t.refusedAt(raw, judge(ctx, err, verdict))
	}
	return conn, nil
}

// config is TLS 1.3 by these terms. Resumption is off: it would let in who was revoked since.
func (by terms) config() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   by.protocols,
		Certificates: []tls.Certificate{*by.pair},
		// Who shows nothing is verify's to refuse: it says so.
		ClientAuth:                  tls.RequestClientCert,
		VerifyConnection:            by.verify,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

// dial does the client's half of a handshake for protocol, with a certificate or nil; verify judges what the server has
// shown, before anything else is sent. With an error raw is closed, and a refusal by verify counted.
func (t *Trust) dial(ctx context.Context, raw net.Conn, pair *tls.Certificate, protocol string, verify func(tls.ConnectionState) error) (*tls.Conn, error) {
	ctx, stop := context.WithTimeoutCause(ctx, t.cfg.HandshakeTimeout, errTooSlow)
	defer stop()
	if pair == nil {
		pair = new(tls.Certificate)
	}
	var verdict error
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		// The server is known by its id, which no host name can be checked against: verify does all of it.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != protocol {
				verdict = refuse(noProtocol, fmt.Errorf("does not speak %s", protocol))
			} else {
				verdict = verify(state)
			}
			return verdict
		},
		GetClientCertificate:        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	})
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, nil
	}
	if verdict != nil {
		return nil, t.refusedAt(raw, verdict)
	}
	_ = raw.Close()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("handshake for %s with %s: %w", protocol, raw.RemoteAddr(), err)
}
