package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	gossippb "github.com/pullonce/pullonce/proto/gossip"
)

// delegate is what memberlist calls. Some calls come under its lock, so none may
// call back into it or block.
type delegate struct{ *Gossip }

// maxHeld bounds how many absent members one exchange may tell of.
const maxHeld = 4096

func (d delegate) NodeMeta(int) []byte             { return d.currentMeta() }
func (d delegate) NotifyMsg([]byte)                {}
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) NotifyJoin(n *memberlist.Node)   { d.heard(n) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.heard(n) }
func (d delegate) NotifyLeave(n *memberlist.Node) {
	if n.Name == d.cfg.ID {
		return
	}
	d.table.gone(n.Name, time.Now())
	d.log.LogAttrs(context.Background(), slog.LevelInfo, "member gone",
		slog.String("member", n.Name), slog.String("address", n.Address()))
	d.touch()
}

func (d delegate) heard(n *memberlist.Node) {
	if n.Name == d.cfg.ID {
		return // this node knows better
	}
	m, _, err := decodeMeta(n.Name, n.Address(), n.Meta)
	if err != nil {
		return // NotifyAlive has refused it already
	}
	before, known := d.table.member(m.ID)
	d.table.alive(m, n.Meta, time.Now())
	if d.refuses(m.ID) { // since it was let in: Recheck may have come too early to see it
		d.table.drop(d.refuses)
		return
	}
	if !known || before.State != m.State || before.BootID != m.BootID {
		d.log.LogAttrs(context.Background(), slog.LevelInfo, "member heard", slog.String("member", m.ID),
			slog.String("state", string(m.State)), slog.String("zone", m.Zone), slog.String("address", m.GossipAddr))
	}
	d.touch()
}

// NotifyAlive refuses nodes that are not of this farm.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	m, farm, err := decodeMeta(n.Name, n.Address(), n.Meta)
	if err != nil {
		return err
	}
	if farm != d.cfg.Farm {
		return fmt.Errorf("node of farm %q; this is %q", farm, d.cfg.Farm)
	}
	if d.refuses(m.ID) {
		d.refused.count(refusedID, n.Address())
		return fmt.Errorf("%s is refused", m.ID)
	}
	if m.ID == d.cfg.ID && m.BootID != d.cfg.BootID && m.State == Active {
		// What others still say of this node is from before it was started.
		if d.table.wasActive(m, n.Meta, time.Now()) {
			d.touch()
		}
	}
	return nil
}

// NotifyMerge refuses to join another farm, before anything of it is taken over.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if _, farm, err := decodeMeta(n.Name, n.Address(), n.Meta); err == nil && farm != d.cfg.Farm {
			return fmt.Errorf("%s belongs to farm %q; this is %q", n.Address(), farm, d.cfg.Farm)
		}
	}
	return nil
}

// NotifyConflict is called for every message of the second node, hence the limit.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if !d.conflictLog.Allow() {
		return
	}
	d.log.LogAttrs(context.Background(), slog.LevelError,
		"two nodes with one id: give one of them a data directory of its own",
		slog.String("member", existing.Name), slog.String("address", existing.Address()),
		slog.String("other_address", other.Address()))
}

// LocalState is what goes along with a full exchange.
func (d delegate) LocalState(bool) []byte {
	state := &gossippb.LocalState{Id: d.cfg.ID, Farm: d.cfg.Farm, RingHash: d.agreement.ownHash()}
	for _, h := range d.table.held(time.Now()) {
		if len(state.Held) == maxHeld {
			break
		}
		if d.refuses(h.member.ID) {
			continue
		}
		state.Held = append(state.Held, &gossippb.Held{
			Id: h.member.ID, GossipAddress: h.member.GossipAddr, Meta: h.meta,
			GoneMs: uint64(max(h.gone, 0).Milliseconds()), Left: h.left,
		})
	}
	raw, err := proto.Marshal(state)
	if err != nil {
		return nil
	}
	return raw
}

// MergeRemoteState takes what came along with a full exchange.
func (d delegate) MergeRemoteState(raw []byte, _ bool) {
	id, hash, absent, err := decodeLocalState(raw, d.cfg.Farm)
	if err != nil {
		d.log.LogAttrs(context.Background(), slog.LevelDebug, "exchange refused", slog.Any("error", err))
		return
	}
	now, changed := time.Now(), false
	for _, h := range absent {
		if !d.refuses(h.member.ID) && d.table.merge(h, now) {
			changed = true
		}
	}
	if changed {
		d.table.drop(d.refuses) // Recheck may have come too early to see them
		d.touch()
	}
	if id != d.cfg.ID && !d.refuses(id) {
		d.ObserveRingHash(id, hash)
	}
}

func decodeLocalState(raw []byte, farm string) (id string, hash uint64, absent []held, err error) {
	var state gossippb.LocalState
	if err := proto.Unmarshal(raw, &state); err != nil {
		return "", 0, nil, fmt.Errorf("exchange that is not Pullonce's: %w", err)
	}
	if state.Farm != farm || len(state.Held) > maxHeld {
		return "", 0, nil, fmt.Errorf("exchange of farm %.64q with %d absent members", state.Farm, len(state.Held))
	}
	if err := checkTexts(state.Id); err != nil {
		return "", 0, nil, err
	}
	for _, h := range state.Held {
		address, err := parseContact(h.GossipAddress)
		if err != nil {
			continue
		}
		m, memberFarm, err := decodeMeta(h.Id, address, h.Meta)
		if err != nil || memberFarm != farm || h.GoneMs > uint64(maxGone.Milliseconds()) {
			continue
		}
		absent = append(absent, held{m, h.Meta, time.Duration(h.GoneMs) * time.Millisecond, h.Left})
	}
	return state.Id, state.RingHash, absent, nil
}

// maxGone is longer than any hold-down, and short enough to count with.
const maxGone = 365 * 24 * time.Hour
