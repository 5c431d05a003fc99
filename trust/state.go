package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"time"
)

// A State is what the farm has agreed on. Of two, the one with the higher Epoch holds.
type State struct {
	Epoch uint64 `json:"epoch"`
	// CAs are the authorities' certificates, DER. A certificate of any of them is a member's.
	CAs [][]byte `json:"authorities,omitempty"`
	// GossipKeys have 32 bytes each; the first is for sending, all are for receiving.
	GossipKeys [][]byte `json:"gossip_keys,omitempty"`
	// Revoked are the ids of nodes that are shut out, and since when.
	Revoked map[string]time.Time `json:"revoked,omitempty"`
	// Void are nodes that were revoked and may be members again: their certificates from before then count no more.
	Void map[string]time.Time `json:"void,omitempty"`
}

// Bounds of what a State from elsewhere may hold.
const (
	maxAuthorities = 8
	maxGossipKeys  = 8
	maxRevoked     = 1 << 16
	gossipKeyLen   = 32
)

// clone is a State that shares nothing with s.
func (s State) clone() State {
	s.CAs, s.GossipKeys, s.Revoked = cloneAll(s.CAs), cloneAll(s.GossipKeys), maps.Clone(s.Revoked)
	s.Void = maps.Clone(s.Void)
	return s
}

// voids tells whether a node's certificate is from before it was revoked.
func (s State) voids(id string, c *x509.Certificate, back time.Duration) bool {
	at, ok := s.Void[id]
	return ok && c.NotBefore.Add(back).Before(at.Truncate(time.Second)) // certificates know no less than seconds
}

func cloneAll(list [][]byte) [][]byte {
	var all [][]byte
	for _, b := range list {
		all = append(all, bytes.Clone(b))
	}
	return all
}

// A view is a State made ready for use. It does not change.
type view struct {
	State
	roots *x509.CertPool
}

// newView checks s and makes it ready. s is not shared with the caller from then on.
func newView(s State) (*view, error) {
	if len(s.CAs) > maxAuthorities || len(s.GossipKeys) > maxGossipKeys || len(s.Revoked)+len(s.Void) > maxRevoked {
		return nil, fmt.Errorf("%d authorities, %d gossip keys and %d revoked nodes: want at most %d, %d and %d",
			len(s.CAs), len(s.GossipKeys), len(s.Revoked), maxAuthorities, maxGossipKeys, maxRevoked)
	}
	v := &view{State: s.clone(), roots: x509.NewCertPool()}
	for id, since := range v.Revoked {
		v.Revoked[id] = since.UTC().Round(0) // as it is read from disk
	}
	for _, der := range s.CAs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read an authority: %w", err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("%q is not an authority", cert.Subject)
		}
		v.roots.AddCert(cert)
	}
	for _, key := range s.GossipKeys {
		if len(key) != gossipKeyLen {
			return nil, fmt.Errorf("gossip key of %d bytes: want %d", len(key), gossipKeyLen)
		}
	}
	return v, nil
}

// sameAuthorities tells whether the same certificates are good under both.
func (v *view) sameAuthorities(o *view) bool { return v.roots.Equal(o.roots) }

// State is what this node knows the farm to have agreed on.
func (t *Trust) State() State { return t.view.Load().clone() }

// AuthoritiesPEM are the farm's authorities as PEM, for clients of its registries; nil when this node knows none.
func (t *Trust) AuthoritiesPEM() []byte { return encodeCertificates(t.view.Load().CAs) }

// GossipKeys are the keys of gossip, 32 bytes each: the first is for sending, all are for receiving.
func (t *Trust) GossipKeys() [][]byte { return cloneAll(t.view.Load().GossipKeys) }

// Revoked tells whether a node is shut out of the farm.
func (t *Trust) Revoked(id string) bool {
	_, ok := t.view.Load().Revoked[id]
	return ok
}

// SetState takes what the farm has agreed on and keeps it on disk; connections of nodes that are revoked by it are closed
// before it returns. It holds even if it cannot be written: see Trouble. One whose epoch is not higher than the last one's changes nothing. In mode files authorities and
// gossip keys stay those of the files.
func (t *Trust) SetState(s State) (changed bool, err error) {
	defer t.takeTurn()()
	return t.setState(s)
}

// setState is SetState for who has the turn.
func (t *Trust) setState(s State) (changed bool, err error) {
	old := t.view.Load()
	if s.Epoch <= old.Epoch {
		return false, nil
	}
	if t.cfg.Mode == Own {
		s.CAs, s.GossipKeys = old.CAs, old.GossipKeys
	} else if len(s.CAs) == 0 || len(s.GossipKeys) == 0 {
		return false, fmt.Errorf("take epoch %d: %w", s.Epoch, errors.New("no authority or no gossip key"))
	}
	v, err := newView(s)
	if err != nil {
		return false, fmt.Errorf("take epoch %d: %w", s.Epoch, err)
	}
	t.useView(v)
	t.dues.owe(dueState)
	t.write()
	return true, nil
}

// useView makes v what holds, and closes the connections that it does not allow.
func (t *Trust) useView(v *view) {
	old := t.view.Swap(v)
	if v.sameAuthorities(old) {
		t.open.closeWhere(func(c *liveConn) bool {
			_, gone := v.Revoked[c.id]
			return gone || v.voids(c.id, c.chain[0], t.cfg.Back)
		})
		return
	}
	t.open.closeWhere(func(c *liveConn) bool {
		_, err := t.check(v, c.usage, runsForever).peer(c.chain, c.chain[0].NotBefore)
		return err != nil
	})
}

// keepState writes v to disk. In mode files what comes from files is left out.
func (t *Trust) keepState(v *view) error {
	s := v.State
	if t.cfg.Mode == Own {
		s.CAs, s.GossipKeys = nil, nil
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the farm's state: %w", err)
	}
	if err := t.disk.write(stateFile, append(raw, '\n')); err != nil {
		return err
	}
	if t.cfg.Mode == Own {
		return nil
	}
	return t.disk.write(caCert, encodeCertificates(s.CAs))
}

// loadState reads what keepState has written; the zero State when there is none.
func (t *Trust) loadState() (State, error) {
	raw, err := t.disk.read(stateFile)
	if err != nil || raw == nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		return State{}, fmt.Errorf("%s is damaged: %w", stateFile, err)
	}
	return s, nil
}

// encodeCertificates is a list of certificates as PEM.
func encodeCertificates(ders [][]byte) []byte {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return text
}

// decodeCertificates reads PEM, of which there must be certificates and nothing that is not PEM.
func decodeCertificates(text []byte) ([][]byte, error) {
	var ders [][]byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type == pemCertificate {
			ders = append(ders, block.Bytes)
		}
		text = rest
	}
	if len(ders) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return ders, nil
}

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)
