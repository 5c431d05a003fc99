package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// A doorConn is a connection to a join door after its handshake. Its holder closes it.
type doorConn struct {
	net.Conn

	Peer *x509.Certificate // what the other side has shown; nil: nothing
	ID   string            // whose that is
	Root []byte            // where dialDoor has pinned it: the authority, DER
}

// acceptDoor does the handshake of a connection that came to the join door: a client certificate or none; one that is
// shown is a member's that is not revoked and has run out at most Grace ago. It is bounded in time, and in number apart
// from the handshakes of members. With an error raw is closed and the refusal counted.
//
// This node's own certificate may have run out as well: that farms come back from a long rest depends on it.
func (t *Trust) acceptDoor(ctx context.Context, raw net.Conn) (*doorConn, error) {
	own := t.own.Load()
	if t.cfg.Mode == Own || own == nil {
		_ = raw.Close()
		return nil, fmt.Errorf("open the join door: %w", ErrNotMember)
	}
	d := &doorConn{}
	verify := func(state tls.ConnectionState) (err error) {
		if len(state.PeerCertificates) == 0 {
			return nil // somebody who has a token, as will be seen
		}
		d.Peer = state.PeerCertificates[0]
		d.ID, err = t.check(t.view.Load(), x509.ExtKeyUsageClientAuth, t.cfg.Grace).peer(state.PeerCertificates, time.Now())
		return err
	}
	pair := doorPair(own, t.view.Load().CAs)
	conn, err := t.accept(ctx, raw, t.door, terms{pair: pair, protocols: []string{ProtocolJoin}, verify: verify})
	if err != nil {
		return nil, err
	}
	d.Conn = conn
	return d, nil
}

// dialDoor does the handshake with a member's join door for a node that is no member yet. The server must show a
// certificate of this farm from the authority with that fingerprint, which may have run out by up to Grace, before
// anything is sent to it. With an error raw is closed.
func (t *Trust) dialDoor(ctx context.Context, raw net.Conn, root Fingerprint) (*doorConn, error) {
	d := &doorConn{}
	verify := func(state tls.ConnectionState) (err error) {
		authority := pinned(state.PeerCertificates, root)
		if authority == nil {
			return refuse(wrongAuthority, fmt.Errorf("does not show the authority %s that the token is of", root))
		}
		v, err := newView(State{CAs: [][]byte{authority.Raw}})
		if err != nil {
			return refuse(wrongAuthority, err)
		}
		return d.take(t.check(v, x509.ExtKeyUsageServerAuth, t.cfg.Grace), state, authority.Raw)
	}
	conn, err := t.dial(ctx, raw, nil, ProtocolJoin, verify)
	if err != nil {
		return nil, err
	}
	d.Conn = conn
	return d, nil
}

// dialDoorToRenew does the handshake with a member's join door with this node's certificate. Both certificates may have
// run out by up to Grace. With an error raw is closed.
func (t *Trust) dialDoorToRenew(ctx context.Context, raw net.Conn) (*doorConn, error) {
	own := t.own.Load()
	if t.cfg.Mode == Own || own == nil {
		_ = raw.Close()
		return nil, ErrNotMember
	}
	d := &doorConn{}
	verify := func(state tls.ConnectionState) error {
		return d.take(t.check(t.view.Load(), x509.ExtKeyUsageServerAuth, t.cfg.Grace), state, nil)
	}
	conn, err := t.dial(ctx, raw, &own.pair, ProtocolJoin, verify)
	if err != nil {
		return nil, err
	}
	d.Conn = conn
	return d, nil
}

// take checks who is at the other end. The authorities that a join door shows beside its own certificate are no part of
// what leads to them.
func (d *doorConn) take(c check, state tls.ConnectionState, root []byte) (err error) {
	if len(state.PeerCertificates) == 0 {
		return refuse(noCertificate, errors.New("no certificate"))
	}
	d.Peer, d.Root = state.PeerCertificates[0], root
	d.ID, err = c.peer(state.PeerCertificates[:1], time.Now())
	return err
}

// pinned is the certificate in chain that has the fingerprint.
func pinned(chain []*x509.Certificate, root Fingerprint) *x509.Certificate {
	for _, cert := range chain {
		if fingerprintOf(cert.Raw) == root {
			return cert
		}
	}
	return nil
}

// doorPair is own with the authorities behind it, so that who joins finds the one that its token pins.
func doorPair(own *identity, authorities [][]byte) *tls.Certificate {
	pair := own.pair
	pair.Certificate = append(cloneAll(pair.Certificate[:1]), authorities...)
	return &pair
}
