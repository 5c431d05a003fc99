package transfer

import "context"

// A Source says where bytes came from that this node gives to a client.
type Source int

// The sources of a node's bytes.
const (
	FromDisk Source = iota
	FromPeer
	FromUpstream
)

// Source is where the bytes of the blob come from at this moment, as a whole.
func (h *Handle) Source() Source {
	switch {
	case h.Complete():
		return FromDisk
	case h.Reads():
		return FromUpstream
	default:
		return FromPeer
	}
}

// Block gives the bytes of the block that starts at off, a multiple of BlockSize, of a blob of which size is confirmed,
// for a client that reads a range, and says where they came from. What has been checked here already comes from here.
// Else the blob's owner reads it from the upstream ahead of order, once: the bytes are then not checked, and are for
// that client alone, which checks by its own means. ErrSwarm: ask Get instead.
func (e *Engine) Block(ctx context.Context, w Want, size, off int64) ([]byte, Source, error) {
	from := FromPeer
	data, err := e.block(ctx, w, size, off, &from)
	return data, from, err
}
