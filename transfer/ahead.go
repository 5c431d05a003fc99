package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// BlockSize is the unit in which bytes are read ahead of order: blocks start at its multiples.
const BlockSize = 1 << 20

// ErrSwarm says that a blob is to be had, checked, from its swarm, and is not read ahead of order.
var ErrSwarm = errors.New("blob is to be had from its swarm")

// Block gives the bytes of the block that starts at off, a multiple of BlockSize, of a blob of which size is confirmed,
// for a client that reads a range. What has been checked here already comes from here. Else the blob's owner reads it
// from the upstream ahead of order, once, and keeps it until the chain reaches it: the bytes are then not checked, and
// are for that client alone, which checks by its own means. ErrSwarm: ask Get instead.
func (e *Engine) Block(ctx context.Context, w Want, size, off int64) ([]byte, error) {
	n := min(BlockSize, size-off)
	if n <= 0 || off < 0 || off%BlockSize != 0 {
		return nil, fmt.Errorf("block at %d of %s: it has %d bytes", off, w.Digest, size)
	}
	if data := e.blockOnDisk(w.Digest, off, n); data != nil {
		return data, nil
	}
	lost := e.lost.ids()
	for range maxMoves {
		owner := e.directory.View().OwnerWithout(w.Digest, lost...)
		if owner == "" || owner == e.cfg.Self.ID {
			return e.blockHere(ctx, w, size, off, n)
		}
		data, err := e.blockFrom(ctx, owner, w, size, off, n)
		if asLost(err) == nil {
			return data, err
		}
		lost = append(lost, owner)
	}
	return nil, fmt.Errorf("block of %s: %w", w.Digest, oci.ErrUnavailable)
}

// blockOnDisk is a block that is here, checked or not; nil when it is not.
func (e *Engine) blockOnDisk(d oci.Digest, off, n int64) []byte {
	p, err := e.store.FindPartial(d)
	if err != nil {
		return nil
	}
	defer p.Close()
	if off+n > p.Size() {
		return nil
	}
	buf := make([]byte, n)
	if ok, err := p.ReadAhead(off, buf); err != nil || !ok {
		return nil
	}
	return buf
}

// blockFrom asks the owner for a block. A lostError says that it cannot be reached.
func (e *Engine) blockFrom(ctx context.Context, owner string, w Want, size, off, n int64) ([]byte, error) {
	node, ok := e.directory.Lookup(owner)
	if !ok {
		return nil, &lostError{owner, errors.New("not a member")}
	}
	p, err := e.peers.to(node.Address)
	if err != nil {
		return nil, &lostError{owner, err}
	}
	head := &transferpb.PieceReply{}
	reply := &bulk{head: head}
	err = e.watched(ctx, node, func(ctx context.Context) error {
		return p.conn.Invoke(ctx, transferpb.Transfer_Range_FullMethodName, &transferpb.RangeRequest{
			Digest: w.Digest.String(), Upstream: w.Repository.Upstream, Repository: w.Repository.Path,
			Size: size, Offset: off, Length: n,
		}, reply)
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, errSilent) || !e.reachable(ctx, node) {
			e.lose(owner)
		}
		return nil, &lostError{owner, err}
	}
	defer reply.free()
	switch {
	case head.GetError() != nil:
		return nil, localError(head.GetError(), owner, w.Digest)
	case head.GetStatus() != transferpb.PieceReply_STATUS_OK:
		return nil, ErrSwarm
	case int64(reply.data.Len()) != n:
		return nil, fmt.Errorf("block of %s: %s sent %d of %d bytes: %w", w.Digest, owner, reply.data.Len(), n, oci.ErrUnavailable)
	}
	e.counters.receivedBytes.Add(n)
	return reply.data.Materialize(), nil
}

// answerRange answers a member that asks the owner for bytes ahead of order.
func (e *Engine) answerRange(ctx context.Context, q *transferpb.RangeRequest) *bulk {
	head := &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_ABSENT}
	reply := &bulk{head: head}
	d, err := oci.ParseDigest(q.GetDigest())
	off, n := q.GetOffset(), q.GetLength()
	if err != nil || off < 0 || off%BlockSize != 0 || n < 1 || n > BlockSize || n > q.GetSize()-off {
		return reply
	}
	w := Want{Repository: oci.Repository{Upstream: q.GetUpstream(), Path: q.GetRepository()}, Digest: d}
	data, err := e.blockHere(ctx, w, q.GetSize(), off, n)
	switch {
	case errors.Is(err, ErrSwarm):
	case err != nil:
		head.Error = wireError(err)
	default:
		head.Status = transferpb.PieceReply_STATUS_OK
		reply.data = mem.BufferSlice{mem.SliceBuffer(data)}
		e.counters.sentBytes.Add(n)
	}
	return reply
}

// blockHere is the owner's part: a block is read from the upstream at most once, however many ask for it.
func (e *Engine) blockHere(ctx context.Context, w Want, size, off, n int64) ([]byte, error) {
	if _, err := e.store.Stat(w.Digest); err == nil || e.holders.of(w.Digest, e.lost.ids()) != "" {
		return nil, ErrSwarm
	}
	result := e.blocks.DoChan(fmt.Sprintf("%s %s %d", w.Repository, w.Digest, off), func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), blockLimit)
		defer cancel()
		return e.readBlock(own, w, size, off, n)
	})
	select {
	case r := <-result:
		data, _ := r.Val.([]byte)
		return data, r.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// readBlock takes a block from the partial blob, waits for it when the upstream is about to send it anyway, or asks
// the upstream for it.
func (e *Engine) readBlock(ctx context.Context, w Want, size, off, n int64) ([]byte, error) {
	p, err := e.partialFor(w, size)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	buf := make([]byte, n)
	if ok, err := p.ReadAhead(off, buf); ok && err == nil {
		return buf, nil
	}
	if t := e.find(w.Digest); t != nil && t.comes(off) {
		if _, err := p.ReadableAhead(ctx, off+n-1); err == nil {
			if ok, err := p.ReadAhead(off, buf); ok && err == nil {
				return buf, nil
			}
		}
	}
	body, err := e.upstream.Blob(ctx, w.Repository, w.Digest, off, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	m, err := io.ReadFull(body, buf)
	e.counters.upstreamBytes.Add(int64(m))
	if err != nil {
		return nil, fmt.Errorf("block at %d of %s: %w: %w", off, w.Digest, oci.ErrUnavailable, err)
	}
	if err := p.WriteAhead(off, buf); err != nil && !errors.Is(err, blobstore.ErrWindow) {
		e.log.Warn("block not kept", slog.String("digest", w.Digest.String()), slog.Any("error", err))
	}
	return buf, nil
}

// partialFor is the partial blob that a block is kept in; the caller closes it.
func (e *Engine) partialFor(w Want, size int64) (*blobstore.Partial, error) {
	p, err := e.store.FindPartial(w.Digest)
	if errors.Is(err, oci.ErrNotFound) {
		p, err = e.store.OpenPartial(piece.Issue(w.Digest, size, piece.SizeFor(size), e.cfg.Self.ID))
	}
	switch {
	case errors.Is(err, blobstore.ErrWhole):
		return nil, ErrSwarm
	case err != nil:
		return nil, fmt.Errorf("open partial blob %s: %w", w.Digest, err)
	case p.Size() != size:
		p.Close()
		return nil, fmt.Errorf("block of %s: it has %d bytes and not %d: %w", w.Digest, p.Size(), size, oci.ErrUnavailable)
	}
	return p, nil
}

// soon is how many bytes before its turn a byte counts as about to come.
const soon = longLane << 20

// comes tells whether the byte at off is among those that the upstream is about to send in order.
func (t *task) comes(off int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.source && t.list != nil && off < int64(t.list.Known())*t.list.PieceSize()+soon
}

// covered is the first piece from from up to, not including, to of which all bytes have been read ahead; to when none.
func (t *task) covered(list *piece.List, from, to int) int {
	t.mu.Lock()
	partial := t.partial
	t.mu.Unlock()
	if partial == nil {
		return to
	}
	for i := from; i < to; i++ {
		if off, n := list.Bounds(i); !partial.Has(i) && partial.AheadHas(off, n) {
			return i
		}
	}
	return to
}

// takeCovered puts a piece that was read ahead into the chain.
func (t *task) takeCovered(ctx context.Context, i int) error {
	t.mu.Lock()
	list, partial := t.list, t.partial
	t.mu.Unlock()
	off, n := list.Bounds(i)
	buf := t.e.buffer(n)
	defer t.e.recycle(buf)
	ok, err := partial.ReadAhead(off, *buf)
	if err != nil || !ok {
		partial.DropAhead(off, n)
		return nil // it is read from the upstream then
	}
	if i < list.Known() && list.Check(i, *buf) != nil {
		partial.DropAhead(off, n)
		return nil
	}
	return t.take(ctx, list, piece.NewHasher(list), i, *buf)
}
