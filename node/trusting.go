package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/trust"
)

// Trust says how this node knows the other members, and they it.
type Trust struct {
	Mode trust.Mode
	// Token, or what is in TokenFile, lets a node without a certificate join, in mode trust.Auto.
	Token, TokenFile string
	Files            trust.Files // in mode trust.Own
}

// firstTry is how long a node that starts tries to become a member, or one again, before it serves alone meanwhile.
const firstTry = 2 * time.Second

// ErrTrustSetup says that the configuration of trust does not fit the node: starting again does not help.
var ErrTrustSetup = errors.New("trust is not set up")

// openTrust reads what makes this node a member. In mode files that says who the node is, and comes before anything else;
// in mode auto a node without seeds founds a farm at its first start, and one with seeds needs a token.
func (n *Node) openTrust() error {
	cfg := trust.Config{
		Dir: n.cfg.DataDir, Node: n.id, Farm: n.cfg.Farm, Mode: n.cfg.Trust.Mode, Files: n.cfg.Trust.Files, Expect: n.expected,
	}
	var err error
	n.trust, err = trust.Open(cfg, n.log)
	if err != nil && cfg.Mode == trust.Own {
		return fmt.Errorf("%w: %w", ErrTrustSetup, err)
	}
	if err != nil {
		return err
	}
	switch {
	case n.trust.Mode() != trust.Auto:
		return nil
	case n.trust.Certificate() != nil:
		return n.warnOfOtherFarm()
	case len(n.cfg.Gossip.Seeds) > 0:
		n.token, err = n.joinToken()
		return err
	case n.cfg.Trust.Token != "" || n.cfg.Trust.TokenFile != "":
		return fmt.Errorf("%w: there is a token, and join is empty: say which farm to join, or leave the token out to found one", ErrTrustSetup)
	}
	return n.trust.Found()
}

// warnOfOtherFarm is for who gives a token to a node that belongs to another farm: it is not looked at. A node that has
// never met another one was most likely started once without join, and does not start.
func (n *Node) warnOfOtherFarm() error {
	token, err := n.joinToken()
	cas := n.trust.State().CAs
	if err != nil || len(cas) == 0 || slices.ContainsFunc(cas, func(der []byte) bool { return sha256.Sum256(der) == token.Fingerprint() }) {
		return nil
	}
	err = fmt.Errorf("%w: the token is for the farm with the CA %s, and this node is of the farm with the CA %x: "+
		"to have it join the other one, remove the folder %s and start it again with the token",
		ErrTrustSetup, token.Fingerprint(), sha256.Sum256(cas[0]), filepath.Join(n.cfg.DataDir, "trust"))
	if len(rememberedPeers(n.cfg.DataDir)) == 0 {
		return err
	}
	n.log.Warn("token is not looked at", slog.Any("reason", err))
	return nil
}

// joinToken is the token of a node that has no certificate yet.
func (n *Node) joinToken() (trust.Token, error) {
	text := n.cfg.Trust.Token
	if path := n.cfg.Trust.TokenFile; text == "" && path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return trust.Token{}, fmt.Errorf("%w: read trust.token_file: %w", ErrTrustSetup, err)
		}
		text = strings.TrimSpace(string(raw))
	}
	if text == "" {
		return trust.Token{}, fmt.Errorf("%w: this node has no certificate of the farm that it is to join: "+
			"make a token with `p2pctl token create` on any member and start it with --token once, "+
			"or start the first node of a new farm without --join", ErrTrustSetup)
	}
	token, err := trust.ParseToken(text)
	if err != nil {
		return token, fmt.Errorf("%w: %w", ErrTrustSetup, err)
	}
	return token, nil
}

// ownFiles is the id that the certificate of a site's PKI gives this node, kept as the node's id from now on.
func (n *Node) ownFiles() error {
	n.id = ""
	if err := n.openTrust(); err != nil {
		return err
	}
	path := filepath.Join(n.cfg.DataDir, "node-id")
	before, err := os.ReadFile(path)
	switch id := strings.TrimSpace(string(before)); {
	case errors.Is(err, fs.ErrNotExist):
		return renameio.WriteFile(path, []byte(n.trust.Node()+"\n"), 0o644)
	case err != nil:
		return fmt.Errorf("read node id: %w", err)
	case id != n.trust.Node():
		return fmt.Errorf("the data directory %s is of node %q and trust.cert_file of node %q: give the node its own certificate, or a data directory of its own",
			n.cfg.DataDir, id, n.trust.Node())
	}
	return nil
}

// trusting tells whether members prove who they are.
func (n *Node) trusting() bool { return n.trust != nil }

// sealGossip has gossip encrypted. A node that is no member yet has a key that nobody else has, and so is alone.
func (n *Node) sealGossip(g *gossip.Config) {
	if !n.trusting() {
		return
	}
	g.Door, g.Refuse = n.trust.TakeDoor, n.trust.Revoked
	if g.Keys = n.trust.GossipKeys(); len(g.Keys) == 0 {
		alone := make([]byte, 32)
		_, _ = rand.Read(alone) // never fails
		g.Keys = [][]byte{alone}
	}
}

// attachTrust gives trust what it needs of the other rooms.
func (n *Node) attachTrust() {
	if !n.trusting() {
		return
	}
	n.trust.Attach(trust.Parts{
		Ledger: ledger{n}, Farm: trustFarm{n}, Changed: n.trustChanged, Addresses: n.doorAddresses,
		Conn: func(address string) (grpc.ClientConnInterface, error) { return n.engine.Conn(address) },
	})
	n.trust.Register(n.peers)
	n.metrics.registry.MustRegister(n.trust.Collector())
}

// doorAddresses are where gossip listens on all nodes of which an address is known.
func (n *Node) doorAddresses() []string {
	addresses := slices.Concat(n.cfg.Gossip.Seeds, n.cfg.Gossip.Known, rememberedPeers(n.cfg.DataDir))
	me := n.gossip.Self().ID
	for _, m := range n.gossip.Members() {
		if m.ID != me && m.GossipAddr != "" {
			addresses = append(addresses, m.GossipAddr)
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

// beMember makes this node a member before it gossips, if that can be done at once, and goes on with it beside what the
// node serves alone meanwhile. An error says that the farm does not want it.
func (n *Node) beMember(ctx context.Context, beside func(func() error)) error {
	if !n.trusting() {
		return nil
	}
	if n.trust.Member() {
		n.trustChanged(n.trust.State())
		return nil
	}
	first, cancel := context.WithTimeout(ctx, firstTry)
	defer cancel()
	err := n.enter(first)
	if first.Err() == nil || ctx.Err() != nil || err == nil {
		return err
	}
	n.log.Warn("no member of the farm answers: serving alone, asking on", slog.Any("join", n.cfg.Gossip.Seeds))
	beside(func() error { return quiet(n.enter(ctx)) })
	return nil
}

// enter joins by the token, or renews a certificate that has run out, and goes by what the farm has agreed on.
func (n *Node) enter(ctx context.Context) error {
	var err error
	if n.trust.Certificate() == nil {
		err = n.trust.Join(ctx, n.token, n.doorAddresses())
	} else {
		err = n.trust.Renew(ctx, n.doorAddresses())
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("become a member of the farm: %w", err)
	}
	n.trustChanged(n.trust.State())
	n.log.Info("member of the farm", slog.Time("certificate_ends", n.trust.Certificate().NotAfter))
	return nil
}

// trustChanged goes by what the farm has agreed on.
func (n *Node) trustChanged(s trust.State) {
	if keys := n.trust.GossipKeys(); len(keys) > 0 {
		if err := n.gossip.SetKeys(keys); err != nil {
			n.log.Error("gossip keys not taken", slog.Any("error", err))
		}
	}
	n.epochSince.Store(time.Now().UnixNano())
	n.gossip.Recheck()
	if err := n.gossip.UpdateSelf(func(m *gossip.Member) { m.Epoch = s.Epoch }); err != nil {
		n.log.Warn("epoch of trust not told", slog.Any("error", err))
	}
}

// hearEpochs tells trust what members say of theirs.
func (n *Node) hearEpochs() {
	if !n.trusting() {
		return
	}
	var newest uint64
	for _, m := range n.gossip.Members() {
		newest = max(newest, m.Epoch)
	}
	n.trust.Heard(newest)
}

// expected is the member that should be at an address of the peer door.
func (n *Node) expected(address string) (id string, ok bool) {
	if n.gossip == nil {
		return "", false
	}
	for _, m := range n.gossip.Members() {
		if m.PeerAddr == address && m.Alive() {
			return m.ID, true
		}
	}
	return "", false
}

// ledger is the catalog's settings as trust keeps its own in them.
type ledger struct{ n *Node }

// Get implements trust.Ledger.
func (l ledger) Get(ctx context.Context, key string) (value []byte, index uint64, err error) {
	return l.n.catalog.SettingAt(ctx, key, false)
}

// List implements trust.Ledger.
func (l ledger) List(ctx context.Context, prefix string) ([]trust.Entry, error) {
	settings, err := l.n.catalog.Settings(ctx, prefix, false)
	if err != nil {
		return nil, err
	}
	entries := make([]trust.Entry, 0, len(settings))
	for _, s := range settings {
		entries = append(entries, trust.Entry{Key: s.Key, Value: s.Value, Index: s.Index})
	}
	return entries, nil
}

// Swap implements trust.Ledger.
func (l ledger) Swap(ctx context.Context, key string, value []byte, ifIndex uint64) (index uint64, err error) {
	r, err := l.n.catalog.Apply(ctx, catalog.Command{Do: catalog.SwapSetting{Key: key, Value: value, IfIndex: ifIndex}})
	if err == nil {
		err = r.Err
	}
	if errors.Is(err, catalog.ErrChanged) {
		err = errors.Join(trust.ErrChanged, err)
	}
	return r.Index, err
}

// trustFarm is the farm as trust sees it.
type trustFarm struct{ n *Node }

// Voters implements trust.Farm.
func (f trustFarm) Voters() []trust.Peer {
	var out []trust.Peer
	for _, v := range f.n.catalog.Status().Voters {
		if m, ok := f.n.gossip.Member(v.Node); ok && m.PeerAddr != "" {
			out = append(out, trust.Peer{ID: m.ID, Address: m.PeerAddr, Epoch: m.Epoch})
		}
	}
	return out
}

// Members implements trust.Farm.
func (f trustFarm) Members() []trust.Peer {
	var out []trust.Peer
	for _, m := range f.n.gossip.Members() {
		if m.Alive() && m.PeerAddr != "" {
			out = append(out, trust.Peer{ID: m.ID, Address: m.PeerAddr, Epoch: m.Epoch})
		}
	}
	return out
}

// IsVoter implements trust.Farm.
func (f trustFarm) IsVoter(id string) bool {
	return slices.ContainsFunc(f.n.catalog.Status().Voters, func(v catalog.VoterStatus) bool { return v.Node == id })
}
