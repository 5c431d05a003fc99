package trust

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// Found makes this node the first of a farm: an authority, the key that it is sealed with, this node's certificate and a
// gossip key, all on disk when it returns. A crash on the way leaves a node that is no member and may found again. A node
// that has ever been a member may not: it would cut itself off from its farm.
func (t *Trust) Found() error {
	if t.cfg.Mode == Own {
		return errors.New("found a farm: its authority comes from files")
	}
	defer t.takeTurn()()
	if t.own.Load() != nil {
		return errors.New("found a farm: this node has been a member of one")
	}
	i, err := newIssuer(t.cfg.Farm, t.cfg.Back)
	if err != nil {
		return fmt.Errorf("found a farm: %w", err)
	}
	if err := t.found(i, newSealKey()); err != nil {
		return fmt.Errorf("found a farm: %w", err)
	}
	return nil
}

// found writes down what a first node has. The certificate comes last, as it is what makes a member.
func (t *Trust) found(i *issuer, seal SealKey) error {
	sealed, err := i.sealed(seal)
	if err != nil {
		return err
	}
	if err := t.writeSealKey(seal); err != nil {
		return err
	}
	if err := t.disk.write(issuerSeal, sealed); err != nil {
		return err
	}
	der, err := t.makeRequest()
	if err != nil {
		return err
	}
	r, err := parseRequest(der)
	if err != nil {
		return err
	}
	chain, err := i.issue(r, t.cfg)
	if err != nil {
		return err
	}
	v, err := newView(State{Epoch: 1, CAs: [][]byte{i.certificate()}, GossipKeys: [][]byte{newGossipKey()}})
	if err != nil {
		return err
	}
	if err := t.keepState(v); err != nil {
		return err
	}
	if err := t.disk.write(nodeCert, encodeCertificates(chain)); err != nil { // a founder that is not on disk founds again
		return err
	}
	t.useView(v)
	return t.setCertificate(chain)
}

// newGossipKey is a new random key for gossip.
func newGossipKey() []byte {
	key := make([]byte, gossipKeyLen)
	_, _ = rand.Read(key) // never fails
	return key
}
