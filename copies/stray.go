package copies

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// unmarkSome unmarks hosted blobs that do not belong here, once all nodes where they belong have promised anew to keep
// them. It tells whether there may be more. A node that has promised does not unmark its own for a while, so two nodes
// cannot both rely on each other.
func (k *Keeper) unmarkSome(ctx context.Context) bool {
	p, some, more := k.takeStrays()
	if len(some) == 0 {
		return more
	}
	begin := time.Now()
	per := make(map[string][]oci.Digest)
	nodes := make(map[string]Node)
	for _, d := range some {
		for _, n := range p.places[k.parts.Farm.Partition(d)].order {
			per[n.ID] = append(per[n.ID], d)
			nodes[n.ID] = n
		}
	}
	kept := make(map[oci.Digest]int)
	for id, digests := range per {
		have, err := k.offerTo(ctx, nodes[id], digests)
		if err != nil {
			continue
		}
		for d := range have {
			kept[d]++
		}
		k.sendNotes(ctx, nodes[id], digests, have)
	}
	for _, d := range some {
		if ring, _ := k.parts.Farm.Ring(); ring != p.ring || time.Since(begin) > k.promise()/2 {
			return false
		}
		if kept[d] == len(p.places[k.parts.Farm.Partition(d)].order) {
			k.unmark(d)
		}
	}
	return true
}

// promise is how long a node keeps as hosted what it was offered, whatever the ring says.
func (k *Keeper) promise() time.Duration { return k.cfg.CompareEvery }

// unmark makes a hosted blob a cached one, unless it was used a short while ago.
func (k *Keeper) unmark(d oci.Digest) {
	err := k.holds.unused(d, time.Now().Add(-k.promise()), func() error { return k.parts.Store.SetHosted(d, false) })
	if err != nil {
		k.log.Warn("copy not unmarked", slog.String("digest", d.String()), slog.String("error", err.Error()))
	}
}

// takeStrays takes some of the blobs that may be unmarked, as long as their ring stands.
func (k *Keeper) takeStrays() (p *plan, some []oci.Digest, more bool) {
	b := &k.back
	p = b.plan.Load()
	b.mu.Lock()
	n := min(len(b.strays), mendBlobs)
	some = b.strays[:n:n]
	b.strays = b.strays[n:]
	b.mu.Unlock()
	some = slices.DeleteFunc(some, func(d oci.Digest) bool {
		where := p.places[k.parts.Farm.Partition(d)]
		return where == nil || where.here >= 0 || len(where.order) == 0 || time.Since(k.holds.last(d)) <= k.promise()
	})
	return p, some, n > 0
}
