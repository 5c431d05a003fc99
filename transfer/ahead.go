package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// BlockSize is the unit in which bytes are read ahead of order: blocks start at its multiples.
const BlockSize = 1 << 20

// ErrSwarm says that a blob is to be had, checked, from its swarm, and is not read ahead of order.
var ErrSwarm = errors.New("blob is to be had from its swarm")

// block gives the bytes of the block that starts at off, a multiple of BlockSize, of a blob of which size is confirmed,
// for a client that reads a range. What has been checked here already comes from here. Else the blob's owner reads it
// from the upstream ahead of order, once, and keeps it until the chain reaches it: the bytes are then not checked, and
// are for that client alone, which checks by its own means. ErrSwarm: ask Get instead.
func (e *Engine) block(ctx context.Context, w Want, size, off int64, from *Source) ([]byte, error) {
	n := min(BlockSize, size-off)
	if n <= 0 || off < 0 || off%BlockSize != 0 {
		return nil, fmt.Errorf("block at %d of %s: it has %d bytes", off, w.Digest, size)
	}
	if data := e.blockOnDisk(w.Digest, off, n); data != nil {
		*from = FromDisk
		return data, nil
	}
	if e.isHosted(w.Repository) {
		return nil, ErrSwarm // it has no upstream
	}
	lost, passed := e.lost.ids(), []string(nil) // those that cannot be reached, and those that cannot reach the upstream
	for range maxMoves {
		past := slices.Concat(lost, passed)
		owner := e.directory.View().OwnerWithout(w.Digest, past...)
		if owner == "" || owner == e.cfg.Self.ID {
			*from = FromUpstream
			return e.blockHere(ctx, w, past, size, off, n)
		}
		data, err := e.blockFrom(ctx, owner, w, size, off, n)
		switch {
		case err == nil || ctx.Err() != nil:
			return data, err
		case asLost(err) != nil:
			if lost = append(lost, owner); len(lost) >= manyLost {
				lost = e.unreachable(ctx, lost)
			}
		case !errors.Is(err, oci.ErrUnavailable):
			return nil, err
		case len(passed)+1 < maxRefused:
			passed = append(passed, owner) // the next owner may reach the upstream
		case e.cfg.UpstreamFallback:
			passed = e.others()
		default:
			return nil, err
		}
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
	if err := e.download.WaitN(ctx, int(n)); err != nil {
		return nil, err
	}
	head := &transferpb.PieceReply{}
	reply := &bulk.Message{Head: head}
	err = e.watched(ctx, node, func(ctx context.Context) error {
		return p.conn.Invoke(ctx, transferpb.Transfer_Range_FullMethodName, &transferpb.RangeRequest{
			Digest: w.Digest.String(), Upstream: w.Repository.Upstream, Repository: w.Repository.Path,
			Size: size, Offset: off, Length: n, Right: e.rightOf(w.Repository),
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
	defer reply.Free()
	switch {
	case head.GetError() != nil:
		return nil, localError(head.GetError(), owner, w.Digest)
	case head.GetStatus() != transferpb.PieceReply_STATUS_OK:
		return nil, ErrSwarm
	case int64(reply.Data.Len()) != n:
		return nil, fmt.Errorf("block of %s: %s sent %d of %d bytes: %w", w.Digest, owner, reply.Data.Len(), n, oci.ErrUnavailable)
	}
	e.received(n, node.Zone)
	return reply.Data.Materialize(), nil
}

// answerRange answers a member that asks the owner for bytes ahead of order.
func (e *Engine) answerRange(ctx context.Context, q *transferpb.RangeRequest) *bulk.Message {
	head := &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_ABSENT}
	reply := &bulk.Message{Head: head}
	d, err := oci.ParseDigest(q.GetDigest())
	off, n := q.GetOffset(), q.GetLength()
	repo := oci.Repository{Upstream: q.GetUpstream(), Path: q.GetRepository()}
	if err != nil || e.isHosted(repo) || off < 0 || off%BlockSize != 0 || n < 1 || n > BlockSize || n > q.GetSize()-off {
		return reply
	}
	e.hearRight(repo, q.GetRight())
	w := Want{Repository: repo, Digest: d}
	data, err := e.blockHere(ctx, w, e.lost.ids(), q.GetSize(), off, n)
	if err == nil {
		err = e.upload.WaitN(ctx, int(n))
	}
	switch {
	case errors.Is(err, ErrSwarm):
	case err != nil:
		head.Error = wireError(err)
	default:
		head.Status = transferpb.PieceReply_STATUS_OK
		reply.Data = mem.BufferSlice{mem.SliceBuffer(data)}
		e.counters.sentBytes.Add(n)
	}
	return reply
}

// blockHere is the owner's part: a block is read from the upstream at most once, however many ask for it. lost are the
// nodes that are passed over for this one.
func (e *Engine) blockHere(ctx context.Context, w Want, lost []string, size, off, n int64) ([]byte, error) {
	if _, err := e.store.Stat(w.Digest); err == nil || e.holders.of(w.Digest, e.lost.ids()) != "" {
		return nil, ErrSwarm
	}
	result := e.blocks.DoChan(fmt.Sprintf("%s %s %d", w.Repository, w.Digest, off), func() (any, error) {
		life, done, err := e.enter()
		if err != nil {
			return nil, fmt.Errorf("block of %s: %w", w.Digest, err)
		}
		defer done()
		own, cancel := context.WithTimeout(life, blockLimit)
		defer cancel()
		return e.readBlock(own, w, lost, size, off, n)
	})
	select {
	case r := <-result:
		data, _ := r.Val.([]byte)
		return data, r.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// enter lets something work that outlives the request that asked for it: until done, Run waits for it, and the context
// ends with Run's.
func (e *Engine) enter() (life context.Context, done func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil || e.ctx.Err() != nil {
		return nil, nil, ErrStopped
	}
	e.group.Add(1)
	return e.ctx, e.group.Done, nil
}

// readBlock takes a block from the partial blob, waits for it when the upstream is about to send it anyway, or asks
// the upstream for it.
func (e *Engine) readBlock(ctx context.Context, w Want, lost []string, size, off, n int64) ([]byte, error) {
	p, err := e.partialFor(w, size)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	buf := make([]byte, n)
	if ok, err := p.ReadAhead(off, buf); ok && err == nil {
		return buf, nil
	}
	if t := e.find(w.Digest); t != nil {
		if ok, err := t.awaitBlock(ctx, p, off, buf); ok || err != nil {
			return buf, err
		}
	}
	if e.lanes(w.Repository) == 0 || e.isElsewhere(ctx, w.Digest, lost) {
		return nil, ErrSwarm
	}
	leave, err := e.goAlone(ctx, w.Digest, lost, e.aloneBlocks)
	if err != nil {
		return nil, err
	}
	defer leave()
	landed, over := e.flying.begin(w.Digest, off)
	for ; landed == nil; landed, over = e.flying.begin(w.Digest, off) { // it is read through another repository
		select {
		case <-over:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if ok, err := p.ReadAhead(off, buf); ok && err == nil {
			return buf, nil
		}
	}
	defer landed()
	if ok, err := p.ReadAhead(off, buf); ok && err == nil { // it has landed meanwhile
		return buf, nil
	}
	if t := e.find(w.Digest); t != nil && t.comes(off) { // asked for meanwhile, by who did not know of this one
		landed()
		if ok, err := t.awaitBlock(ctx, p, off, buf); ok || err != nil {
			return buf, err
		}
	}
	data, done, err := e.blockByLease(ctx, w, lost, size, off, n)
	if data == nil && err == nil {
		data, err = buf, e.fetchBlock(ctx, w, off, buf)
	}
	done(err == nil)
	if err != nil {
		return nil, err
	}
	buf = data
	if err := p.WriteAhead(off, buf); err != nil && !errors.Is(err, blobstore.ErrWindow) {
		e.log.Warn("block not kept", slog.String("digest", w.Digest.String()), slog.Any("error", err))
	}
	return buf, nil
}

// fetchBlock reads a block from the upstream. One that gives no ranges is not read up to it: the blob then comes in
// order, from the swarm.
func (e *Engine) fetchBlock(ctx context.Context, w Want, off int64, buf []byte) error {
	body, err := e.upstream.Blob(ctx, w.Repository, w.Digest, off, int64(len(buf)))
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if body.Skip > 0 {
		return ErrSwarm
	}
	m, err := io.ReadFull(body, buf)
	e.counters.upstreamBytes.Add(int64(m))
	if err != nil {
		return fmt.Errorf("block at %d of %s: %w: %w", off, w.Digest, oci.ErrUnavailable, err)
	}
	return nil
}

// awaitBlock waits for a block that the fetch of the whole blob has asked the upstream for, or is about to, and tells
// whether it has come. ErrSwarm: the blob comes from other nodes.
func (t *task) awaitBlock(ctx context.Context, p *blobstore.Partial, off int64, buf []byte) (bool, error) {
	if t.opens() {
		opening, cancel := context.WithTimeout(ctx, openLimit)
		_ = t.await(opening, t.listed) // what it asks for is known then; if it fails the block is read for itself
		cancel()
	}
	switch {
	case t.joined():
		return false, ErrSwarm
	case !t.comes(off):
		return false, nil
	}
	if _, err := p.ReadableAhead(ctx, off+int64(len(buf))-1); err != nil {
		return false, nil
	}
	ok, err := p.ReadAhead(off, buf)
	return ok && err == nil, nil
}

// opens tells whether the upstream is being asked for the first bytes of the blob. While the blob waits for its place in
// the queue it is not.
func (t *task) opens() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.source && !t.queued && t.list == nil
}

// joined tells whether the blob comes from a swarm that meets at another node.
func (t *task) joined() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.done && !t.source && t.at != "" && !t.complete()
}

// partialFor is the partial blob that a block is kept in; the caller closes it.
func (e *Engine) partialFor(w Want, size int64) (*blobstore.Partial, error) {
	p, err := e.store.FindPartial(w.Digest)
	if errors.Is(err, oci.ErrNotFound) {
		p, err = e.store.OpenPartial(piece.Issue(w.Digest, size, piece.SizeFor(size), e.cfg.Self.ID))
	}
	if errors.Is(err, blobstore.ErrOtherList) {
		p, err = e.store.FindPartial(w.Digest) // another reader has opened it meanwhile
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

// comes tells whether the byte at off is among those that the upstream has been asked for in order, or is about to be, or
// that come from other nodes.
func (t *task) comes(off int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.source || t.list == nil {
		return false
	}
	i := off / t.list.PieceSize()
	if i >= int64(max(t.list.Known(), t.asked)+shortLane) {
		return false
	}
	return !t.queued || !t.missing()(int(i)) // who waits for a place may do so for long
}

// covered is the first piece from from up to, not including, to of which all bytes have been read ahead, or are being
// read; to when none.
func (t *task) covered(list *piece.List, from, to int) int {
	t.mu.Lock()
	partial := t.partial
	t.mu.Unlock()
	if partial == nil {
		return to
	}
	for i := from; i < to; i++ {
		if off, n := list.Bounds(i); !partial.Has(i) && t.e.flying.covers(partial, t.digest, off, n) {
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
	if err == nil && !ok && t.e.flying.await(ctx, t.digest, off, n) {
		return nil // it is here by now, or is read in order
	}
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
