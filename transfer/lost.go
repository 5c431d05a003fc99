package transfer

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// A lostSet remembers for a short time which nodes could not be reached, so that one failure is found once and not by
// every fetch.
type lostSet struct {
	keep time.Duration

	mu    sync.Mutex
	until map[string]time.Time
}

func newLostSet(keep time.Duration) *lostSet {
	return &lostSet{keep: keep, until: make(map[string]time.Time)}
}

func (l *lostSet) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until[id] = time.Now().Add(l.keep)
}

func (l *lostSet) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.until, id)
}

// ids are the nodes that are lost now.
func (l *lostSet) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var out []string
	for id, until := range l.until {
		if now.After(until) {
			delete(l.until, id)
			continue
		}
		out = append(out, id)
	}
	return out
}

// lose notes that a node cannot be reached.
func (e *Engine) lose(id string) {
	e.counters.lost.Add(1)
	e.log.Info("node lost", slog.String("peer", id), slog.Duration("for", e.cfg.LostFor))
	e.lost.add(id)
}

// reachable asks a node directly whether it is there, for ProbeTimeout at most. A node that refuses is not: that is
// known at once. gRPC leaves a connection alone for a while after a refusal, so a node that has just restarted would
// still look dead: then the address itself is tried, and the connection waited for.
func (e *Engine) reachable(ctx context.Context, n Node) bool {
	p, err := e.peers.to(n.Address)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.ProbeTimeout)
	defer cancel()
	reply, err := p.Ping(ctx, &transferpb.PingRequest{})
	if err != nil && ctx.Err() == nil && e.peers.accepts(ctx, n.Address) {
		reply, err = p.Ping(ctx, &transferpb.PingRequest{}, grpc.WaitForReady(true))
	}
	if err != nil || reply.GetNode() != n.ID {
		return false
	}
	e.lost.remove(n.ID)
	return true
}

// manyLost is how many nodes a fetch must find lost, one after the other, before it asks all the others at once: a node
// that was cut off from its farm must get to the upstream in time.
const manyLost = 2

// unreachable is lost and every other member that does not answer now. Only of the latter it is remembered: who was
// passed over before may be there.
func (e *Engine) unreachable(ctx context.Context, lost []string) []string {
	var mu sync.Mutex
	var gone []string
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for _, m := range e.directory.View().Members() {
		if m.ID == e.cfg.Self.ID || slices.Contains(lost, m.ID) {
			continue
		}
		g.Go(func() error {
			if n, ok := e.directory.Lookup(m.ID); !ok || !e.reachable(ctx, n) {
				mu.Lock()
				defer mu.Unlock()
				gone = append(gone, m.ID)
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	for _, id := range gone {
		e.lost.add(id)
	}
	return slices.Concat(lost, gone)
}

// Ping answers a peer that asks whether this node is there.
func (e *Engine) Ping(context.Context, *transferpb.PingRequest) (*transferpb.PingReply, error) {
	return &transferpb.PingReply{Node: e.cfg.Self.ID}, nil
}

// StatusOf asks a peer for its status.
func (e *Engine) StatusOf(ctx context.Context, n Node) ([]byte, error) {
	p, err := e.peers.to(n.Address)
	if err != nil {
		return nil, err
	}
	reply, err := p.Status(ctx, &transferpb.StatusRequest{})
	return reply.GetJson(), err
}

// Status hands out this node's status.
func (e *Engine) Status(ctx context.Context, _ *transferpb.StatusRequest) (*transferpb.StatusReply, error) {
	raw, err := e.status(ctx)
	return &transferpb.StatusReply{Json: raw}, err
}
