package trust

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Limits of a book, so that the state that is made of it fits into a message and into a setting of the catalog.
const (
	maxBook        = 56 << 10
	maxCertificate = 4 << 10
)

// sealedKeys is what gossip keys are sealed as.
const sealedKeys = "gossip keys"

var errNoBook = errors.New("the farm's trust has not been founded")

// checkBook holds a book to what is made of it.
func checkBook(b *trustpb.Book) error {
	if b.GetEpoch() == 0 || len(b.GetAuthorities()) > maxAuthorities || len(b.GetGossipKeys()) > maxCertificate {
		return errRecord
	}
	for _, a := range b.GetAuthorities() {
		if n := len(a.GetCertificate()); n == 0 || n > maxCertificate || len(a.GetKey()) > 2*maxCertificate {
			return errRecord
		}
	}
	for _, r := range b.GetRevoked() {
		if checkName(r.GetNode()) != nil {
			return errRecord
		}
	}
	if r := b.GetRotation(); r.GetBegun() > r.GetWanted() {
		return errRecord
	}
	return nil
}

// readBook is what the catalog has now; an empty one and 0 when there is nothing.
func (p *Parts) readBook(ctx context.Context) (*trustpb.Book, uint64, error) {
	return load(ctx, p.Ledger, bookKey, checkBook)
}

// changeBook has edit change what the catalog has. The epoch goes up by it.
func (p *Parts) changeBook(ctx context.Context, edit func(b *trustpb.Book, there bool) (verdict, error)) (*trustpb.Book, error) {
	return change(ctx, p.Ledger, bookKey, checkBook, func(b *trustpb.Book, there bool) (verdict, error) {
		before := b.GetEpoch()
		do, err := edit(b, there)
		if err != nil || do != put {
			return do, err
		}
		b.Epoch = max(b.GetEpoch(), before+1)
		if size := proto.Size(b); size > maxBook {
			return leave, fmt.Errorf("too many nodes are revoked: the list would have %d bytes, the limit is %d", size, maxBook)
		}
		return put, nil
	})
}

// takeRevocations puts what a book or a peer says of revocations into a state.
func (s *State) takeRevocations(list []*trustpb.Revocation) {
	s.Revoked, s.Void = make(map[string]time.Time), make(map[string]time.Time)
	for _, r := range list {
		if r.GetLifted() {
			s.Void[r.GetNode()] = time.Unix(0, r.GetAt())
		} else {
			s.Revoked[r.GetNode()] = time.Unix(0, r.GetAt())
		}
	}
}

// revocations are what takeRevocations reads, the earliest first.
func (s State) revocations() []*trustpb.Revocation {
	list := make([]*trustpb.Revocation, 0, len(s.Revoked)+len(s.Void))
	for node, at := range s.Revoked {
		list = append(list, &trustpb.Revocation{Node: node, At: at.UnixNano()})
	}
	for node, at := range s.Void {
		if _, ok := s.Revoked[node]; !ok {
			list = append(list, &trustpb.Revocation{Node: node, At: at.UnixNano(), Lifted: true})
		}
	}
	slices.SortFunc(list, func(x, y *trustpb.Revocation) int {
		return cmp.Or(cmp.Compare(x.GetAt(), y.GetAt()), cmp.Compare(x.GetNode(), y.GetNode()))
	})
	return list
}

// shutsOut tells whether a book shuts a node out.
func shutsOut(b *trustpb.Book, id string) bool {
	return slices.ContainsFunc(b.GetRevoked(), func(r *trustpb.Revocation) bool { return r.GetNode() == id && !r.GetLifted() })
}

// keysOf are the gossip keys of a book.
func (s *signer) keysOf(b *trustpb.Book) ([][]byte, error) {
	raw, err := s.key.unseal(sealedKeys, b.GetGossipKeys())
	if err != nil {
		return nil, fmt.Errorf("unseal gossip keys: %w", err)
	}
	return parseKeys(raw)
}

func parseKeys(raw []byte) ([][]byte, error) {
	var k trustpb.GossipKeys
	if err := proto.Unmarshal(raw, &k); err != nil {
		return nil, errors.New("gossip keys are garbled")
	}
	return k.GetKeys(), checkKeys(k.GetKeys())
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxGossipKeys {
		return fmt.Errorf("%d gossip keys: want 1 to %d", len(keys), maxGossipKeys)
	}
	if slices.ContainsFunc(keys, func(k []byte) bool { return len(k) != gossipKeyLen }) {
		return fmt.Errorf("a gossip key has not %d bytes", gossipKeyLen)
	}
	return nil
}

// setKeys seals gossip keys into a book.
func (s *signer) setKeys(b *trustpb.Book, keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	raw, err := proto.Marshal(&trustpb.GossipKeys{Keys: keys})
	if err != nil {
		return fmt.Errorf("encode gossip keys: %w", err)
	}
	b.GossipKeys = s.key.seal(sealedKeys, raw)
	return nil
}

// stateOf is the state that a book comes to.
func (s *signer) stateOf(b *trustpb.Book) (State, error) {
	keys, err := s.keysOf(b)
	if err != nil {
		return State{}, err
	}
	state := State{Epoch: b.GetEpoch(), GossipKeys: keys}
	state.takeRevocations(b.GetRevoked())
	for _, a := range b.GetAuthorities() {
		state.CAs = append(state.CAs, a.GetCertificate())
	}
	return state, nil
}

// replyOf is a state as it goes over the wire.
func replyOf(s State) *trustpb.StateReply {
	return &trustpb.StateReply{Epoch: s.Epoch, Authorities: s.CAs, GossipKeys: s.GossipKeys, Revoked: s.revocations()}
}

// stateIn reads what replyOf has made.
func stateIn(r *trustpb.StateReply) (State, error) {
	if err := checkKeys(r.GetGossipKeys()); err != nil {
		return State{}, err
	}
	if n := len(r.GetAuthorities()); r.GetEpoch() == 0 || n == 0 || n > maxAuthorities {
		return State{}, errors.New("a state without an epoch or authorities")
	}
	for _, n := range r.GetRevoked() {
		if err := checkName(n.GetNode()); err != nil {
			return State{}, fmt.Errorf("revoked node: %w", err)
		}
	}
	s := State{Epoch: r.GetEpoch(), CAs: r.GetAuthorities(), GossipKeys: r.GetGossipKeys()}
	s.takeRevocations(r.GetRevoked())
	return s, nil
}

// hasAuthority tells whether a certificate, DER, is one of a list.
func hasAuthority(list [][]byte, der []byte) bool {
	return slices.ContainsFunc(list, func(c []byte) bool { return bytes.Equal(c, der) })
}
