package copies

import (
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// smallPer is how many small blobs may come in for each large one that may: a manifest must not wait for gigabytes.
const smallPer = 4

// incoming bounds what peers send here at once. Each blob comes in once at a time.
type incoming struct {
	limit int

	mu    sync.Mutex
	blobs map[oci.Digest]struct{} // those whose digest is known
	count [3]int                  // by class
}

// A class is what a blob that comes in is counted with.
type class int

const (
	hasty   class = iota // somebody waits until it is here
	patient              // its client still sends, or nobody waits: such must not take all places
	small                // it is here in one message
)

// class is what a parcel is counted with when one message has at most so many bytes.
func (p parcel) class(message int) class {
	switch {
	case p.size >= 0 && p.size <= int64(message):
		return small
	case p.digest.IsZero() || p.repair:
		return patient
	}
	return hasty
}

func newIncoming(limit int) *incoming {
	return &incoming{limit: limit, blobs: make(map[oci.Digest]struct{})}
}

// begin takes a place for d, or for a blob whose digest is not known yet. It tells whether there is one.
func (in *incoming) begin(d oci.Digest, c class) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, taken := in.blobs[d]
	switch {
	case taken,
		c == small && in.count[small] >= smallPer*in.limit,
		c != small && in.count[hasty]+in.count[patient] >= in.limit,
		c == patient && in.count[patient] >= max(1, in.limit/2):
		return false
	}
	if !d.IsZero() {
		in.blobs[d] = struct{}{}
	}
	in.count[c]++
	return true
}

// end gives the place back.
func (in *incoming) end(d oci.Digest, c class) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.blobs, d)
	in.count[c]--
}

func (in *incoming) total() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.count[hasty] + in.count[patient] + in.count[small]
}
