package transfer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A Lease says who may read a blob from its upstream. Both methods must end with ctx.
type Lease interface {
	// Lease takes the lease of a blob for this node, or holds on to it, and names the node that has it now. It ends by
	// itself after some 30 s in which it was not taken again. An error says that no lease is to be had.
	Lease(ctx context.Context, d oci.Digest) (holder string, err error)
	// Release gives the lease back.
	Release(ctx context.Context, d oci.Digest) error
}

const (
	// leaseWait bounds how long a lease may hold up a pull when it is not to be had: what it saves is not worth more.
	leaseWait = 250 * time.Millisecond
	// leaseSkip is how long none is asked for after that ran out.
	leaseSkip = 30 * time.Second
	// leaseRenew is how often a lease is taken again: three times while it lasts.
	leaseRenew = 10 * time.Second
	// leaseLinger is how long it is kept after what it was for has gone well: the client may read on, and who comes next
	// is sent here, where the blob is.
	leaseLinger = 5 * time.Second
)

// leases are those that this node has, or asks for now. What reads the same blob shares one.
type leases struct {
	e    *Engine
	with Lease // nil: there are none

	mu      sync.Mutex
	byBlob  map[oci.Digest]*lease
	skipped time.Time // none is asked for before
}

// A lease is one blob's, from the question to its return.
type lease struct {
	asked chan struct{} // closed when holder is set
	over  chan struct{} // closed when the lease has been given back
	idle  chan struct{} // carries a value when the last user has gone

	// The mu of leases guards these.
	holder string // another node that has it; "": this one, or nobody can say
	mine   bool
	users  int
	failed bool // what the last user did went wrong: others may be faster
	ending bool // it is being given back
}

func newLeases(e *Engine, with Lease) *leases {
	return &leases{e: e, with: with, byBlob: make(map[oci.Digest]*lease)}
}

// take takes the lease of a blob, or shares the one that is here. holder is another node that has it; "" lets the caller
// go on, who calls done at the end: this node has the lease, or none is to be had. It waits for leaseWait at most. It may
// be called only by what Run waits for.
func (l *leases) take(ctx context.Context, d oci.Digest) (holder string, done func(ok bool)) {
	nothing := func(bool) {}
	if l.with == nil || len(l.e.directory.Others()) == 0 {
		return "", nothing
	}
	timer := time.NewTimer(leaseWait)
	defer timer.Stop()
	v, as := l.join(d)
	for as == late {
		select {
		case <-v.over:
			v, as = l.join(d)
		case <-timer.C:
			return "", nothing
		case <-ctx.Done():
			return "", nothing
		}
	}
	switch as {
	case nobody:
		return "", nothing
	case first:
		l.e.group.Go(func() { l.keep(ctx, d, v) })
	}
	done = l.leaver(v)
	select {
	case <-v.asked:
	case <-timer.C:
		l.skip()
		return "", done
	case <-ctx.Done():
		return "", done
	}
	l.mu.Lock()
	holder = v.holder
	l.mu.Unlock()
	if holder != "" {
		done(true)
		return holder, nothing
	}
	return "", done
}

// How one joins a lease.
const (
	nobody = iota // none is to be had now
	first         // the caller is to have it asked for
	next          // it is here, or is being asked for
	late          // it is being given back
)

// leaver is what a user calls when it is done.
func (l *leases) leaver(v *lease) func(ok bool) {
	var once sync.Once
	return func(ok bool) { once.Do(func() { l.leave(v, ok) }) }
}

// join makes the caller a user of a blob's lease.
func (l *leases) join(d oci.Digest) (v *lease, as int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch v = l.byBlob[d]; {
	case v != nil && v.ending:
		return v, late
	case v != nil:
		v.users++
		return v, next
	case time.Now().Before(l.skipped):
		return nil, nobody
	}
	v = &lease{users: 1, asked: make(chan struct{}), over: make(chan struct{}), idle: make(chan struct{}, 1)}
	l.byBlob[d] = v
	return v, first
}

func (l *leases) leave(v *lease, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.users, v.failed = v.users-1, !ok
	if v.users == 0 {
		select {
		case v.idle <- struct{}{}:
		default:
		}
	}
}

func (l *leases) skip() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipped = time.Now().Add(leaseSkip)
}

// has tells whether this node has the lease of a blob.
func (l *leases) has(d oci.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.byBlob[d]
	return v != nil && v.mine && !v.ending
}

// keep asks for a lease, takes it again while it has users, and gives it back. It goes on when the caller that asked
// first has gone, until the node stops.
func (l *leases) keep(ctx context.Context, d oci.Digest, v *lease) {
	life, done, err := l.e.enter()
	if err != nil {
		life, done = ctx, func() {}
	}
	defer done()
	l.ask(life, d, v)
	close(v.asked)
	renew := time.NewTicker(leaseRenew)
	defer renew.Stop()
	linger := time.NewTimer(leaseLinger)
	defer linger.Stop()
	for !l.ends(life, v, false) {
		select {
		case <-life.Done():
		case <-renew.C:
			l.ask(life, d, v)
		case <-linger.C:
			if l.ends(life, v, true) {
				l.giveBack(life, d, v)
				return
			}
		case <-v.idle:
			linger.Reset(leaseLinger)
		}
	}
	l.giveBack(life, d, v)
}

// ask takes the lease, for the first time or again. Who reads already goes on when it is another's by now.
func (l *leases) ask(ctx context.Context, d oci.Digest, v *lease) {
	within, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	holder, err := l.with.Lease(within, d)
	me := l.e.cfg.Self.ID
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		l.skip()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-v.asked:
	default:
		if err == nil && holder != me {
			v.holder = holder
		}
	}
	if err != nil {
		l.e.log.Debug("no lease", slog.String("digest", d.String()), slog.Any("error", err))
		return
	}
	v.mine = holder == me
}

// ends tells whether the lease is not needed any more, and nobody joins it from then on. One whose users have all gone
// lingers.
func (l *leases) ends(ctx context.Context, v *lease, lingered bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.holder != "" || ctx.Err() != nil || v.users == 0 && (lingered || v.failed || !v.mine) {
		v.ending = true
	}
	return v.ending
}

// giveBack ends a lease, also while the node stops.
func (l *leases) giveBack(ctx context.Context, d oci.Digest, v *lease) {
	l.mu.Lock()
	mine := v.mine
	l.mu.Unlock()
	if mine {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseWait)
		defer cancel()
		if err := l.with.Release(within, d); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			l.e.log.Debug("lease not given back", slog.String("digest", d.String()), slog.Any("error", err))
		}
	}
	l.mu.Lock()
	delete(l.byBlob, d)
	l.mu.Unlock()
	close(v.over)
}
