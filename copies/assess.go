package copies

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/oci"
)

// A flight is a copy on its way to a node.
type flight struct {
	digest oci.Digest
	to     string
}

// A job is a copy to be made: the node lacks a blob that is here.
type job struct {
	flight
	node    Node
	part    int
	size    int64
	ring    uint64
	holders int    // nodes that have it, as far as is known
	shuffle uint64 // other nodes send the same in another order
}

// An assessment finds out from what comparisons have shown what there is to do.
type assessment struct {
	k       *Keeper
	plan    *plan
	now     time.Time
	want    int // copies that there should be
	differ  map[int]map[string]*difference
	queue   []*job
	strays  []oci.Digest
	missing int // blobs below their copies
}

// assess lays out anew what is to be sent and what is not to be kept here any more.
func (k *Keeper) assess(p *plan) {
	a := &assessment{k: k, plan: p, now: time.Now(), want: min(k.cfg.Copies, p.members), differ: make(map[int]map[string]*difference)}
	b := &k.back
	b.mu.Lock()
	a.gather()
	for at, part := range p.parts {
		a.look(at, part)
	}
	slices.SortFunc(a.queue, func(x, y *job) int {
		return cmp.Or(cmp.Compare(x.holders, y.holders), cmp.Compare(x.shuffle, y.shuffle))
	})
	b.queue, b.strays, b.below = a.queue, a.strays, a.missing
	work := len(a.queue)+len(a.strays) > 0
	b.mu.Unlock()
	if work {
		select {
		case b.kick <- struct{}{}:
		default:
		}
	}
}

// gather sorts the differences by partition.
func (a *assessment) gather() {
	b := &a.k.back
	for id, v := range b.peers {
		for at, d := range v.found.differing() {
			if len(d.lacks) == 0 {
				continue
			}
			if a.differ[at] == nil {
				a.differ[at] = make(map[string]*difference)
			}
			a.differ[at][id] = d
		}
	}
	for d, until := range b.garbage {
		if a.now.After(until) {
			delete(b.garbage, d)
		}
	}
}

// look goes through one partition. The work is small when no node differs.
func (a *assessment) look(at int, p *part) {
	where := a.plan.places[at]
	others := len(where.order)
	if where.here >= 0 {
		others--
	}
	if len(a.differ[at]) == 0 {
		first := where.here == 0 || others == 0
		if first && 1+a.likely(where) < a.want {
			a.missing += len(p.blobs)
		}
		if where.here < 0 && others > 0 && a.allKnown(where) {
			a.addStrays(p)
		}
		return
	}
	for _, blob := range p.blobs {
		a.lookAt(at, where, blob, others)
	}
}

func (a *assessment) addStrays(p *part) {
	for _, blob := range p.blobs {
		a.strays = append(a.strays, blob.digest)
	}
}

// likely is how many other nodes have what they should, when no comparison has shown that they have not. One that only
// stands in is believed to have nothing before that is known.
func (a *assessment) likely(where *places) (n int) {
	for _, node := range where.order {
		if node.ID != a.k.cfg.Node && (a.known(node) || slices.Contains(where.ring, node.ID)) {
			n++
		}
	}
	return n
}

// known tells whether a node was compared with.
func (a *assessment) known(n Node) bool {
	v := a.k.back.peers[n.ID]
	return v != nil && v.known
}

// allKnown tells whether all places were compared with.
func (a *assessment) allKnown(where *places) bool {
	return !slices.ContainsFunc(where.order, func(n Node) bool {
		return n.ID != a.k.cfg.Node && !a.known(n)
	})
}

// lookAt goes into one blob of a partition in which nodes differ.
func (a *assessment) lookAt(at int, where *places, b blob, others int) {
	back := &a.k.back
	if _, ok := back.garbage[b.digest]; ok {
		return
	}
	before, lacking := 0, 0 // nodes that may have it and go before this one; that have none
	holders, likely := 1, 1 // nodes that are known to have it; that are believed to
	for i, n := range where.order {
		switch {
		case n.ID == a.k.cfg.Node:
			continue
		case a.lack(at, n.ID, b.digest) != nil:
			lacking++
			continue
		case a.known(n):
			holders++
			likely++
		case slices.Contains(where.ring, n.ID):
			likely++
		}
		if where.here < 0 || i < where.here {
			before++
		}
	}
	if before == 0 && likely < a.want {
		a.missing++
	}
	if lacking == 0 && where.here < 0 && others > 0 && a.allKnown(where) {
		a.strays = append(a.strays, b.digest)
	}
	for _, n := range where.order {
		if l := a.lack(at, n.ID, b.digest); l != nil && a.mayMend(where, n.ID) && a.turn(l, before) {
			a.add(at, n, b, holders)
		}
	}
}

func (a *assessment) lack(at int, id string, d oci.Digest) *lack {
	difference := a.differ[at][id]
	if difference == nil {
		return nil
	}
	return difference.lacks[d]
}

// mayMend tells whether a place is sent what it lacks. One that only stands in for a while is not, unless places were
// lost, and not just restarted, so that too few are left.
func (a *assessment) mayMend(where *places, id string) bool {
	if slices.Contains(where.ring, id) {
		return true
	}
	lost := 0
	for _, id := range where.down {
		if a.now.Sub(a.k.back.gone[id]) > a.k.cfg.CompareEvery {
			lost++
		}
	}
	return len(where.ring)-lost < min(a.k.cfg.MinCopies, len(where.ring))
}

// turn tells whether this node is to send: the first holder does at once, each further one when those before it have
// not for a while.
func (a *assessment) turn(l *lack, before int) bool {
	patience := time.Duration(before) * a.k.interval(len(a.k.back.peers)) * 3 / 2
	return !a.now.Before(l.next) && a.now.Sub(l.since) >= patience
}

func (a *assessment) add(at int, n Node, b blob, holders int) {
	f := flight{b.digest, n.ID}
	if v := a.k.back.peers[n.ID]; a.k.back.flying[f] || v == nil || a.now.Before(v.rest) {
		return
	}
	mark := binary.LittleEndian.AppendUint64([]byte(a.k.cfg.Node), blobSum(b.digest).hash)
	a.queue = append(a.queue, &job{
		flight: f, node: n, part: at, size: b.size, ring: a.plan.ring,
		holders: holders, shuffle: xxhash.Sum64(mark),
	})
}
