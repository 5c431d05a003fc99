package transfer

import "github.com/pullonce/pullonce/oci"

// Rotted hears that a piece on disk has turned out to be wrong: the store is without it, and so are the swarms from now
// on. Whoever reads the blob next fetches the piece anew.
func (e *Engine) Rotted(d oci.Digest, piece int) {
	e.holders.stored(d) // no longer, as its owner hears
	t := e.find(d)
	if t == nil {
		return
	}
	t.mu.Lock()
	whole := t.blob != nil
	if !whole && t.fetcher != nil && piece >= 0 {
		t.fetcher.Drop(piece)
	}
	t.mu.Unlock()
	if whole || piece < 0 {
		e.retire(t, true) // the next one to ask finds the store as it is now
		t.cancel()
		return
	}
	t.wake()
}
