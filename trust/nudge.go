package trust

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Bounds of telling all members that there is something new.
const (
	nudgedAtOnce = 64
	nudgeTimeout = 2 * time.Second
	nudgingFor   = 10 * time.Second
)

// announce brings this node up to date after it has changed the book, and tells all others.
func (t *Trust) announce(ctx context.Context, p *Parts) {
	book, _, err := p.readBook(ctx)
	if err == nil {
		err = t.catchUp(ctx, p, book)
	}
	if err != nil { // the farm has it; this node will hear of it again
		t.log.LogAttrs(ctx, slog.LevelWarn, "this node does not have the farm's new trust yet", slog.Any("error", err))
	}
	t.Heard(book.GetEpoch())
	t.clerk.look()
	t.nudge(ctx, p, book.GetEpoch())
}

// catchUp makes the book that this node has changed its state, by itself or by way of a voter.
func (t *Trust) catchUp(ctx context.Context, p *Parts, b *trustpb.Book) error {
	s, err := t.signer()
	if err != nil {
		return err
	}
	if s == nil && t.Mode() == Auto {
		return t.fetch(ctx, p, b.GetEpoch())
	}
	return t.takeBook(ctx, s, b)
}

// nudge tells all members that there is a newer state, so that it does not hang on gossip alone.
func (t *Trust) nudge(ctx context.Context, p *Parts, epoch uint64) {
	ctx, cancel := context.WithTimeout(ctx, nudgingFor)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(nudgedAtOnce)
	var mu sync.Mutex
	missed := 0
	for _, peer := range t.others(p.Farm.Members()) {
		if t.Revoked(peer.ID) || peer.Epoch >= epoch {
			continue
		}
		g.Go(func() error {
			if err := t.nudgeOne(ctx, p, peer, epoch); err != nil {
				mu.Lock()
				defer mu.Unlock()
				missed++
			}
			return nil
		})
	}
	_ = g.Wait()
	if missed > 0 {
		t.log.LogAttrs(ctx, slog.LevelInfo, "some members must hear of the new trust by gossip", slog.Int("members", missed))
	}
}

func (t *Trust) nudgeOne(ctx context.Context, p *Parts, peer Peer, epoch uint64) error {
	ctx, cancel := context.WithTimeout(ctx, nudgeTimeout)
	defer cancel()
	client, err := p.client(peer)
	if err != nil {
		return err
	}
	_, err = client.Nudge(ctx, &trustpb.NudgeRequest{Epoch: epoch})
	return err
}
