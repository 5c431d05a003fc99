package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// callTimeout bounds a call to one peer.
const callTimeout = 2 * time.Second

// maxAskedForSeal is how many members are asked for the seal key when no voter gives it.
const maxAskedForSeal = 16

// A signer is what a node has that can sign: the key that the farm's secrets are sealed with, and its authority.
type signer struct {
	key    SealKey
	issuer *issuer
}

// signer is what this node signs with; nil when it cannot.
func (t *Trust) signer() (*signer, error) {
	c := t.clerk
	c.mu.Lock()
	s, looked := c.signer, c.looked
	c.mu.Unlock()
	if looked {
		return s, nil
	}
	s, err := t.readSigner()
	if err != nil {
		return nil, err
	}
	t.setSigner(s)
	return s, nil
}

// CanSign tells whether this node can make members: it has the farm's authority. Voters get it from each other.
func (t *Trust) CanSign() bool {
	s, err := t.signer()
	return err == nil && s != nil
}

func (t *Trust) setSigner(s *signer) {
	t.clerk.mu.Lock()
	defer t.clerk.mu.Unlock()
	t.clerk.signer, t.clerk.looked = s, s != nil // Found may make one later
}

func (t *Trust) readSigner() (*signer, error) {
	if t.Mode() != Auto {
		return nil, nil
	}
	key, ok, err := t.sealKey()
	if err != nil || !ok {
		return nil, err
	}
	sealed, err := t.sealedIssuer()
	if err != nil || sealed == nil {
		return nil, err
	}
	i, err := unsealIssuer(key, sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal the farm's authority: %w", err)
	}
	return &signer{key, i}, nil
}

// getSeal gets the seal key from a node that has it, which gives it to voters alone.
func (t *Trust) getSeal(ctx context.Context, p *Parts) error {
	book, index, err := p.readBook(ctx)
	if err != nil {
		return err
	}
	if index == 0 || len(book.GetAuthorities()) == 0 {
		return errNoBook
	}
	if !hasAuthority(t.State().CAs, book.GetAuthorities()[0].GetCertificate()) {
		return errors.New("the catalog has another authority than this node")
	}
	err = errElsewhere
	for _, peer := range t.likelySigners(p) {
		var key SealKey
		if key, err = t.askSeal(ctx, p, peer); err != nil {
			continue
		}
		if err = t.keepSigner(key, book.GetAuthorities()[0]); err == nil {
			t.log.LogAttrs(ctx, slog.LevelInfo, "the farm's authority can be used here", slog.String("peer", peer.ID))
			return nil
		}
	}
	return fmt.Errorf("get the seal key: %w", err)
}

// likelySigners are the other voters, then a few other members: the voters may all be new.
func (t *Trust) likelySigners(p *Parts) []Peer {
	voters := t.others(p.Farm.Voters())
	members := slices.DeleteFunc(t.others(p.Farm.Members()), func(m Peer) bool {
		return slices.ContainsFunc(voters, func(v Peer) bool { return v.ID == m.ID })
	})
	return append(voters, members[:min(len(members), maxAskedForSeal)]...)
}

// others are all but this node, in an order of chance.
func (t *Trust) others(peers []Peer) []Peer {
	list := slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.ID == t.Node() || p.Address == "" })
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (t *Trust) askSeal(ctx context.Context, p *Parts, peer Peer) (key SealKey, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := p.client(peer)
	if err != nil {
		return key, err
	}
	reply, err := client.Seal(ctx, &trustpb.SealRequest{})
	if err != nil {
		return key, err
	}
	if copy(key[:], reply.GetKey()) != len(key) || len(reply.GetKey()) != len(key) {
		return key, errors.New("the seal key has another size")
	}
	return key, nil
}

// keepSigner puts on disk what makes this node one that can sign, when the key fits.
func (t *Trust) keepSigner(key SealKey, a *trustpb.Authority) error {
	i, err := unsealIssuer(key, a.GetKey())
	if err != nil {
		return fmt.Errorf("unseal the farm's authority: %w", err)
	}
	if !bytes.Equal(i.certificate(), a.GetCertificate()) {
		return errors.New("the sealed key is of another authority")
	}
	if err := t.keepSealedIssuer(a.GetKey()); err != nil {
		return err
	}
	if err := t.keepSealKey(key); err != nil {
		return err
	}
	t.setSigner(&signer{key, i})
	return nil
}

// dropSigner takes from disk what a node needs no more that is no voter, as soon as enough voters have it.
func (t *Trust) dropSigner(ctx context.Context, p *Parts) error {
	s, err := t.signer()
	if err != nil || s == nil {
		return err
	}
	book, _, err := p.readBook(ctx)
	if err != nil {
		return err
	}
	if !s.signsFor(book) {
		return errOtherFarm // it is nowhere but here
	}
	voters := t.others(p.Farm.Voters())
	have := 0
	for _, peer := range voters {
		reply, err := t.askState(ctx, p, peer, t.State().Epoch)
		if err == nil && reply.GetSealed() {
			have++
		}
	}
	if have == 0 || have < min(len(voters), 2) {
		return errors.New("too few voters can sign yet")
	}
	if err := t.disk.remove(sealFile); err != nil {
		return err
	}
	if err := t.keepSealedIssuer(nil); err != nil {
		return err
	}
	if err := t.disk.remove(copyFile); err != nil {
		return err
	}
	t.setSigner(nil)
	t.log.LogAttrs(ctx, slog.LevelInfo, "the farm's authority was given back", slog.Int("voters", have))
	return nil
}
