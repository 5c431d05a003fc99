package node

import (
	"context"
	"errors"
	"io"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
)

// longRange is how many bytes a range must have for the whole blob to be fetched beside it: a pull that goes on after
// a cut, and not a reader that picks what it needs.
const longRange = 16 << 20

// rangedBlob opens a blob that is not here for a client that reads a part of it. Nothing is fetched before it is known
// which part.
func (n *Node) rangedBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (registryapi.Blob, error) {
	size, err := n.StatBlob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return &ranged{n: n, want: transfer.Want{Repository: repo, Digest: d, Size: size}, size: size}, nil
}

// ranged gives parts of a blob ahead of the order in which it arrives.
type ranged struct {
	n     *Node
	want  transfer.Want
	size  int64
	whole *transfer.Handle // once the blob is to be had from its swarm, or fetched whole beside
	first []byte           // the block that Ready waited for
	at    int64            // where it starts
	from  transfer.Source  // where it came from
	given tally
}

func (r *ranged) Size() int64 { return r.size }

func (r *ranged) Ready(ctx context.Context, off int64) error {
	if off >= r.size {
		return nil
	}
	if err := r.n.awaitFarm(ctx); err != nil {
		return err
	}
	at := off - off%transfer.BlockSize
	if h := r.n.engine.Peek(r.want); h != nil {
		if r.whole = h; h.Near(off) {
			return h.Ready(ctx, off)
		}
	}
	data, from, err := r.n.engine.Block(ctx, r.want, r.size, at)
	if errors.Is(err, transfer.ErrSwarm) {
		return r.fromSwarm(ctx, off)
	}
	r.first, r.at, r.from = data, at, from
	return err
}

// fromSwarm fetches the whole blob, the part that the client waits for first.
func (r *ranged) fromSwarm(ctx context.Context, off int64) error {
	if err := r.fetchWhole(); err != nil {
		return err
	}
	return r.whole.Ready(ctx, off)
}

func (r *ranged) fetchWhole() error {
	if r.whole != nil {
		return nil
	}
	h, err := r.n.engine.Get(r.want)
	r.whole = h
	return err
}

// WriteRange gives block after block, until the fetch of the whole blob has caught up.
func (r *ranged) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	if n >= longRange {
		if err := r.fetchWhole(); err != nil {
			return err
		}
	}
	for n > 0 {
		if r.whole != nil && r.first == nil && r.whole.Near(off) {
			from, sent := r.whole.Source(), &position{Writer: w}
			err := r.whole.WriteRange(ctx, sent.target(), off, n)
			r.given[from] += sent.n
			return err
		}
		m, err := r.writeBlock(ctx, w, off, n)
		if errors.Is(err, transfer.ErrSwarm) {
			if err := r.fromSwarm(ctx, off); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

// writeBlock writes what the client wants of the block at off.
func (r *ranged) writeBlock(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	at := off - off%transfer.BlockSize
	data := r.first
	if data == nil || r.at != at {
		var err error
		if data, r.from, err = r.n.engine.Block(ctx, r.want, r.size, at); err != nil {
			return 0, err
		}
	}
	r.first = nil
	data = data[off-at:]
	m, err := w.Write(data[:min(n, int64(len(data)))])
	r.given[r.from] += int64(m)
	return int64(m), err
}

func (r *ranged) Close() error {
	r.n.metrics.count(r.given)
	r.given = tally{}
	if r.whole == nil {
		return nil
	}
	return r.whole.Close()
}
