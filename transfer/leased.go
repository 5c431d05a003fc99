package transfer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

const (
	// leaseLook is how often a node asks anew for a lease whose holder does not read the blob: it is about to give it
	// back, or to begin. After leaseYield it goes on without.
	leaseLook, leaseYield = 50 * time.Millisecond, time.Second
	// maxYields is how often one fetch goes to the lease's holder: where that did not help it goes on without.
	maxYields = 3
	// leasedBlock bounds how long a block may take that the lease's holder is to read.
	leasedBlock = 5 * time.Second
)

// A preparer is an Upstream that can find out how to ask for a repository before the question, while the lease is taken.
type preparer interface {
	Prepare(ctx context.Context, repo oci.Repository)
}

// mayRead takes the blob's lease. A redirectError names the node that has it and reads the blob. A holder that is lost,
// or does not read it, holds nobody up for long. done ends the use of the lease; it is never nil.
func (t *task) mayRead(ctx context.Context, lost []string) (done func(ok bool), err error) {
	done = func(bool) {}
	if t.isSmall() {
		return done, nil
	}
	t.prepare(ctx)
	for end := time.Now().Add(leaseYield); ; {
		holder, ours := t.e.leases.take(ctx, t.digest)
		if holder == "" || slices.Contains(lost, holder) {
			return ours, ctx.Err()
		}
		reads, err := t.e.readsBlob(ctx, holder, t.digest)
		switch {
		case err != nil:
			t.log.Info("lease is another's that cannot be reached", slog.String("peer", holder), slog.Any("error", err))
			return done, ctx.Err()
		case reads && t.yield():
			return done, &redirectError{holder}
		case reads || time.Now().After(end):
			t.log.Info("lease is another's that does not help", slog.String("peer", holder))
			return done, nil
		}
		if err := pause(ctx, leaseLook); err != nil {
			return done, err
		}
	}
}

// isSmall tells whether the blob is known to be so small that two may read it.
func (t *task) isSmall() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.claimed
	if t.list != nil {
		size = t.list.Size()
	}
	return size > 0 && size <= t.e.cfg.InlineMax
}

// yield notes that the task goes to the lease's holder, if it may once more; the swarm no longer meets here.
func (t *task) yield() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.yielded == maxYields {
		return false
	}
	t.yielded++
	t.meeting = t.complete()
	t.e.counters.yields.Add(1)
	return true
}

// prepare lets the upstream's client look names up and fetch tokens while the lease is taken.
func (t *task) prepare(ctx context.Context) {
	p, ok := t.e.upstream.(preparer)
	if !ok || t.e.leases.with == nil {
		return
	}
	repo := t.repository()
	t.e.group.Go(func() { p.Prepare(ctx, repo) })
}

// readsBlob asks the holder of a lease whether the blob is to be had from it.
func (e *Engine) readsBlob(ctx context.Context, id string, d oci.Digest) (bool, error) {
	node, ok := e.directory.Lookup(id)
	if !ok {
		return false, errors.New("it is no member")
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AskTimeout)
	defer cancel()
	h, err := e.askHolding(ctx, node, d)
	return h.GetWhole() || h.GetMeeting() || h.GetIntends() || h.GetLeased(), err
}

// blockByLease gets a block from the node that has the blob's lease; nil when the block is to be read here, until done is
// called.
func (e *Engine) blockByLease(ctx context.Context, w Want, lost []string, size, off, n int64) (data []byte, done func(ok bool), err error) {
	if size <= e.cfg.InlineMax {
		return nil, func(bool) {}, nil
	}
	holder, done := e.leases.take(ctx, w.Digest)
	if holder == "" || slices.Contains(lost, holder) {
		return nil, done, nil
	}
	within, cancel := context.WithTimeout(ctx, leasedBlock)
	defer cancel()
	data, err = e.blockFrom(within, holder, w, size, off, n)
	if errors.Is(err, ErrSwarm) {
		return nil, done, err
	}
	return data, done, nil // what else went wrong there is no reason not to read it here
}

// leasedHolding is what a node that has the lease of a blob and no more says that it has.
func (e *Engine) leasedHolding(d oci.Digest, h *transferpb.HoldingsReply_Holding) *transferpb.HoldingsReply_Holding {
	if !e.leases.has(d) {
		return h
	}
	if h == nil {
		h = &transferpb.HoldingsReply_Holding{}
	}
	h.Leased = true
	return h
}
