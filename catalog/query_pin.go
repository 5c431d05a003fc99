package catalog

import (
	"iter"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// Pin is the pin of a name. One that has ended is there until a command comes with a time after it, so that all nodes
// answer alike.
func (v View) Pin(name string) (Pin, bool) {
	p, ok := v.s.pins.get(pinItem{name: name})
	return p.pin(), ok
}

// Pins yields all pins in the order of their names.
func (v View) Pins() iter.Seq[Pin] {
	return func(yield func(Pin) bool) {
		for p := range v.s.pins.all() {
			if !yield(p.pin()) {
				return
			}
		}
	}
}

func (p pinItem) pin() Pin { return Pin{p.name, p.digest, fromNanos(p.until)} }

// Lease is the node that holds the lease of a blob at a time, or "".
func (v View) Lease(d oci.Digest, now time.Time) string {
	l, ok := v.s.leases.get(leaseItem{digest: d})
	if !ok || !l.holds(toNanos(now)) {
		return ""
	}
	return l.node
}

// Tombstones yields what was deleted and is not forgotten yet.
func (v View) Tombstones() iter.Seq[Tombstone] {
	return func(yield func(Tombstone) bool) {
		for t := range v.s.tombs.all() {
			if !yield(Tombstone{t.repository, t.name, t.index, fromNanos(t.time)}) {
				return
			}
		}
	}
}

// Buried is the tombstone of a tag or of a digest in a repository.
func (v View) Buried(repository, name string) (Tombstone, bool) {
	t, ok := v.s.tombs.get(tombItem{repository: repository, name: name})
	return Tombstone{t.repository, t.name, t.index, fromNanos(t.time)}, ok
}
