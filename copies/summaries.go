package copies

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// A sum stands for a set of blobs: sets that are the same have the same one, others almost surely another. Blobs come
// and go in any order.
type sum struct {
	count uint32
	hash  uint64 // exclusive or of the blobs' hashes
}

func (s *sum) add(o sum) {
	s.count += o.count
	s.hash ^= o.hash
}

func (s sum) wire(partition int) *copiespb.CompareRequest_Summary {
	return &copiespb.CompareRequest_Summary{Partition: uint32(partition), Count: s.count, Sum: s.hash}
}

func sumOf(w *copiespb.CompareRequest_Summary) sum { return sum{w.GetCount(), w.GetSum()} }

// blobSum is what one blob adds to a sum. It is part of the protocol.
func blobSum(d oci.Digest) sum { return sum{1, xxhash.Sum64String(d.String())} }

// contents are the hosted blobs of this node at one moment, by partition. They never change.
type contents struct {
	changes uint64 // as the store counts them
	parts   map[int]*part
	blobs   int
	bytes   int64
}

// A part is what contents have of one partition, at least one blob.
type part struct {
	sum   sum
	blobs []blob
}

type blob struct {
	digest oci.Digest
	size   int64
}

// contentsNow are the present contents: old, as long as nothing has changed since.
func (k *Keeper) contentsNow(old *contents) *contents {
	changes := k.parts.Store.HostedChanges() // first: what comes during the scan is seen by the next one
	if old != nil && old.changes == changes {
		return old
	}
	c := &contents{changes: changes, parts: make(map[int]*part)}
	k.parts.Store.EachHosted(func(d oci.Digest, size int64) bool {
		at := k.parts.Farm.Partition(d)
		p := c.parts[at]
		if p == nil {
			p = &part{}
			c.parts[at] = p
		}
		p.sum.add(blobSum(d))
		p.blobs = append(p.blobs, blob{d, size})
		c.blobs++
		c.bytes += size
		return true
	})
	return c
}

// A plan says what this node has and where it belongs, by one ring and with certain nodes up. It never changes.
type plan struct {
	*contents
	key     string // of the ring and the nodes that are up
	ring    uint64
	members int
	places  map[int]*places
	shares  map[string]*share // by the nodes with which there is something to compare
}

// places say where the blobs of a partition belong.
type places struct {
	order   []Node   // the nodes that are up and should have them: first those that a push would pick now, best first
	ring    []string // the nodes that the ring names
	down    []string // those of ring that are not up
	here    int      // this node's place in order; -1: the blobs do not belong here any more
	settled bool     // the ring names this node
}

// A share is what this node and another one both should have, or the other one alone.
type share struct {
	node  Node  // the address is "" while it is down
	sum   sum   // of the partitions of both by the ring
	both  []int // those partitions, as far as something of them is here
	other []int // partitions of which something is here, and where the other one stands in or this node does
}

// planNow is the present plan: old, as long as nothing has changed since.
func (k *Keeper) planNow(old *plan) *plan {
	ring, members := k.parts.Farm.Ring()
	key := k.farmKey(ring)
	p := &plan{key: key, ring: ring, members: max(1, members)}
	if old != nil {
		if p.contents = k.contentsNow(old.contents); p.contents == old.contents && old.key == key {
			return old
		}
	} else {
		p.contents = k.contentsNow(nil)
	}
	p.places = make(map[int]*places, len(p.parts))
	p.shares = make(map[string]*share)
	for at, part := range p.parts {
		if old != nil && old.key == key && old.places[at] != nil {
			p.places[at] = old.places[at]
		} else {
			p.places[at] = k.placesOf(part.blobs[0].digest)
		}
		p.enter(at, k.cfg.Node)
	}
	return p
}

// strays is how many blobs do not belong here.
func (p *plan) strays() (n int) {
	for at, part := range p.parts {
		if p.places[at].here < 0 {
			n += len(part.blobs)
		}
	}
	return n
}

// farmKey names the ring and the nodes that are up.
func (k *Keeper) farmKey(ring uint64) string {
	others := k.parts.Farm.Others()
	keys := make([]string, 0, len(others)+1)
	for _, n := range others {
		keys = append(keys, n.ID+"\x00"+n.Address)
	}
	slices.Sort(keys)
	return strings.Join(append(keys, strconv.FormatUint(ring, 16)), "\x01")
}

// placesOf finds where the partition of d belongs.
func (k *Keeper) placesOf(d oci.Digest) *places {
	p := &places{here: -1}
	add := func(n Node) {
		if slices.ContainsFunc(p.order, func(o Node) bool { return o.ID == n.ID }) {
			return
		}
		if n.ID == k.cfg.Node {
			p.here = len(p.order)
		}
		p.order = append(p.order, n)
	}
	for _, n := range k.parts.Farm.Places(d, k.cfg.Copies, true) {
		add(n)
	}
	for _, n := range k.parts.Farm.Places(d, k.cfg.Copies, false) {
		p.ring = append(p.ring, n.ID)
		switch {
		case n.ID == k.cfg.Node:
			p.settled = true
			add(n)
		case n.Up:
			add(n)
		default:
			p.down = append(p.down, n.ID)
		}
	}
	return p
}

// enter makes partition at part of the shares.
func (p *plan) enter(at int, self string) {
	where := p.places[at]
	for _, n := range where.order {
		if n.ID == self {
			continue
		}
		s := p.share(n.ID)
		s.node = n
		if !where.settled || !slices.Contains(where.ring, n.ID) {
			s.other = append(s.other, at)
		}
	}
	if !where.settled {
		return
	}
	for _, id := range where.ring { // also one that seems down may ask
		if id != self {
			s := p.share(id)
			s.sum.add(p.parts[at].sum)
			s.both = append(s.both, at)
		}
	}
}

func (p *plan) share(id string) *share {
	if p.shares[id] == nil {
		p.shares[id] = &share{}
	}
	return p.shares[id]
}
