package copies

import (
	"context"
	"sync"

	"github.com/pullonce/pullonce/oci"
)

// puts are the blobs that are pushed now. Who pushes one that is pushed already shares that work.
type puts struct {
	mu     sync.Mutex
	flying map[oci.Digest]*shared
}

// A shared is one blob that is pushed.
type shared struct {
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // once done
	waiters int   // guarded by the lock of puts
}

func newPuts() *puts { return &puts{flying: make(map[oci.Digest]*shared)} }

// share runs do for d, or waits for the one who does; mine tells which. Who gives up leaves; the work goes on as long as
// anybody waits for it, and the last one to leave ends it.
func (p *puts) share(ctx context.Context, d oci.Digest, do func(context.Context) error) (mine bool, err error) {
	p.mu.Lock()
	f := p.flying[d]
	if f == nil {
		mine = true
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f = &shared{cancel: cancel, done: make(chan struct{})}
		p.flying[d] = f
		go func() {
			f.err = do(work)
			p.land(d, f)
			cancel()
			close(f.done)
		}()
	}
	f.waiters++
	p.mu.Unlock()
	select {
	case <-f.done:
		return mine, f.err
	case <-ctx.Done():
		p.leave(d, f)
		return mine, context.Cause(ctx)
	}
}

// land lets the next push of d begin anew.
func (p *puts) land(d oci.Digest, f *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flying[d] == f {
		delete(p.flying, d)
	}
}

func (p *puts) leave(d oci.Digest, f *shared) {
	p.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && p.flying[d] == f {
		delete(p.flying, d)
	}
	p.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}
