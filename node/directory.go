package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/ring"
	"github.com/pullonce/pullonce/transfer"
)

// directory joins what gossip knows of the members and what the ring makes of them, for the rooms that move blobs.
type directory struct {
	gossip  *gossip.Gossip
	builder *ring.Builder
	view    atomic.Pointer[ring.View]
	log     *slog.Logger

	changed    atomic.Int64 // when the view did last, in nanoseconds of the Unix time
	dir        string       // of the node's data
	remembered []string     // members whose addresses are on disk
	heard      func()       // called when members have changed; may be nil

	updating sync.Mutex // one update at a time; the first one of a large farm takes seconds
}

func newDirectory(g *gossip.Gossip, partitions int, dir string, log *slog.Logger) *directory {
	d := &directory{gossip: g, dir: dir, builder: ring.NewBuilder(partitions), log: log}
	d.update()
	return d
}

// run keeps the view in step with gossip until ctx is done.
func (d *directory) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.gossip.Changed():
			d.update()
			if d.heard != nil {
				d.heard()
			}
		}
	}
}

// update makes the view of the ring's members as they are now.
func (d *directory) update() {
	d.updating.Lock()
	defer d.updating.Unlock()
	members := d.gossip.RingMembers()
	placed := make([]ring.Member, 0, len(members))
	for _, m := range members {
		placed = append(placed, ring.Member{ID: m.ID, Zone: m.Zone, Egress: m.Egress})
	}
	old := d.view.Load()
	view := d.builder.Update(placed)
	if old == nil || old.Hash() != view.Hash() {
		d.changed.Store(time.Now().UnixNano())
	}
	d.view.Store(view)
	d.gossip.SetRingHash(view.Hash())
	d.remember()
	if old != nil && old.Hash() != view.Hash() {
		d.log.Info("ring changed", slog.Int("members", len(members)), slog.Uint64("epoch", view.Epoch()))
	}
}

// calm is how long this node's ring must have stood for what others said of theirs to be about the same.
const calm = 2 * time.Second

// agreed tells whether all members that are there have told, in this life of theirs, that they go by the same ring.
func (d *directory) agreed() bool {
	hash := d.View().Hash()
	if time.Since(time.Unix(0, d.changed.Load())) < calm {
		return false
	}
	me := d.gossip.Self().ID
	for _, m := range d.gossip.Members() {
		if m.ID != me && m.Alive() && m.RingHash != hash {
			return false
		}
	}
	return true
}

func (d *directory) View() *ring.View { return d.view.Load() }

func (d *directory) Lookup(id string) (transfer.Node, bool) {
	m, ok := d.gossip.Member(id)
	if !ok || m.PeerAddr == "" {
		return transfer.Node{}, false
	}
	return nodeOf(m), true
}

func (d *directory) Others() []transfer.Node {
	me := d.gossip.Self().ID
	var out []transfer.Node
	for _, m := range d.gossip.Members() {
		if m.ID != me && m.Alive() && m.PeerAddr != "" {
			out = append(out, nodeOf(m))
		}
	}
	return out
}

func (d *directory) Snapshot() []byte { return d.gossip.Snapshot() }

func (d *directory) Merge(snapshot []byte) {
	if err := d.gossip.Merge(snapshot); err != nil {
		d.log.Debug("membership of a peer not merged", slog.Any("error", err))
	}
}

func (d *directory) Observe(id string, ringHash uint64) { d.gossip.ObserveRingHash(id, ringHash) }

func nodeOf(m gossip.Member) transfer.Node {
	return transfer.Node{ID: m.ID, Boot: m.BootID, Address: m.PeerAddr, Zone: m.Zone}
}
