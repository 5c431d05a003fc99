package transfer

import (
	"context"
	"sync"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// flying are the blocks that are being read from the upstream ahead of order, so that who reads in order does not ask
// for them too.
type flying struct {
	mu     sync.Mutex
	blocks map[flyingBlock]chan struct{} // closed when the block is here, or is not to come
}

type flyingBlock struct {
	digest oci.Digest
	off    int64
}

// begin notes that a block is about to be read. landed says that it is here, or will not come; it may be called twice. It
// is nil when somebody else is reading the block: over is closed when that ends.
func (f *flying) begin(d oci.Digest, off int64) (landed func(), over <-chan struct{}) {
	key, mine := flyingBlock{d, off}, make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	if theirs, ok := f.blocks[key]; ok {
		return nil, theirs
	}
	if f.blocks == nil {
		f.blocks = make(map[flyingBlock]chan struct{})
	}
	f.blocks[key] = mine
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.blocks, key)
		close(mine)
	}), mine
}

// of is closed when a block has landed; nil when it is not on its way.
func (f *flying) of(d oci.Digest, off int64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if over, ok := f.blocks[flyingBlock{d, off}]; ok {
		return over
	}
	return nil
}

// covers tells whether all n bytes from off have been read ahead of order, or are about to have been.
func (f *flying) covers(p *blobstore.Partial, d oci.Digest, off, n int64) bool {
	for at, end := off, off+n; at < end; {
		start := at - at%BlockSize
		next := min(start+BlockSize, end)
		if !p.AheadHas(at, next-at) && f.of(d, start) == nil {
			return false
		}
		at = next
	}
	return true
}

// await waits until none of the n bytes from off is on its way, and tells whether one was.
func (f *flying) await(ctx context.Context, d oci.Digest, off, n int64) bool {
	waited := false
	for at := off - off%BlockSize; at < off+n; at += BlockSize {
		if over := f.of(d, at); over != nil {
			waited = true
			select {
			case <-over:
			case <-ctx.Done():
				return true
			}
		}
	}
	return waited
}
