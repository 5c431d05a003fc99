package node

import (
	"context"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/copies"
	"github.com/pullonce/pullonce/oci"
)

// copiesFarm is the farm as the copies of hosted content see it.
type copiesFarm struct{ n *Node }

// Places implements copies.Farm.
func (f copiesFarm) Places(d oci.Digest, n int, up bool) []copies.Node {
	view := f.n.directory.View()
	var is func(id string) bool
	if up {
		is = f.up
	}
	ids := view.Places(d, n, is)
	if len(ids) == 0 && view.Empty() {
		ids = []string{f.n.id} // before the node has its place in the ring it is a farm of one
	}
	out := make([]copies.Node, 0, len(ids))
	for _, id := range ids {
		out = append(out, f.node(id))
	}
	return out
}

func (f copiesFarm) up(id string) bool {
	m, ok := f.n.gossip.Member(id)
	return id == f.n.id || ok && m.Alive() && m.PeerAddr != ""
}

func (f copiesFarm) node(id string) copies.Node {
	m, _ := f.n.gossip.Member(id)
	return copies.Node{ID: id, Address: m.PeerAddr, Zone: m.Zone, Up: f.up(id)}
}

// Ring implements copies.Farm. Nodes of two catalogs, as there are when two farms with hosted content were joined, go by
// two rings to it: neither side gives up a copy to nodes whose catalog does not name it.
func (f copiesFarm) Ring() (hash uint64, members int) {
	view := f.n.directory.View()
	return view.Hash() ^ xxhash.Sum64String(f.n.catalog.ID()), max(1, len(view.Members()))
}

// Others implements copies.Farm.
func (f copiesFarm) Others() []copies.Node {
	others := f.n.directory.Others()
	out := make([]copies.Node, 0, len(others))
	for _, o := range others {
		out = append(out, copies.Node{ID: o.ID, Address: o.Address, Zone: o.Zone, Up: true})
	}
	return out
}

// Partition implements copies.Farm.
func (f copiesFarm) Partition(d oci.Digest) int { return f.n.directory.View().Partition(d) }

// copiesCatalog is what the copies of hosted content ask the catalog.
type copiesCatalog struct{ n *Node }

// Named implements copies.Catalog. A catalog that is not that of what is hosted here has no say in what may go.
func (c copiesCatalog) Named(ctx context.Context, digests []oci.Digest) ([]bool, error) {
	if err := c.n.belonging.check(c.n.catalog.ID()); err != nil {
		return nil, err
	}
	return c.n.holdsAll(ctx, digests)
}

// holdsAll asks the catalog which digests any repository has.
func (n *Node) holdsAll(ctx context.Context, digests []oci.Digest) ([]bool, error) {
	return n.catalog.HoldsAll(ctx, digests, false)
}

// Notes implements copies.Catalog.
func (c copiesCatalog) Notes(ctx context.Context, digests []oci.Digest) (map[oci.Digest][]byte, error) {
	described, err := c.n.catalog.Describe(ctx, digests, true)
	if err != nil {
		return nil, err
	}
	notes := make(map[oci.Digest][]byte, len(described))
	for d, found := range described {
		notes[d] = catalog.EncodeCopies(found)
	}
	return notes, nil
}

// Merge implements copies.Catalog. A note that cannot be read is worth nothing.
func (c copiesCatalog) Merge(older, newer []byte) []byte {
	a, errA := catalog.DecodeCopies(older)
	b, errB := catalog.DecodeCopies(newer)
	switch {
	case errB != nil:
		return older
	case errA != nil:
		return newer
	}
	return catalog.EncodeCopies(catalog.MergeCopies(a, b))
}
