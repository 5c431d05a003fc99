package transfer

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// inline gives a small blob whole, once it is here.
func (s *session) inline(ctx context.Context) ([]byte, bool, error) {
	s.t.mu.Lock()
	small := s.t.list.Size() <= s.e.cfg.InlineMax
	s.t.mu.Unlock()
	if !small {
		return nil, false, nil
	}
	if err := s.await(ctx, s.t.whole); err != nil {
		return nil, false, err
	}
	s.t.mu.Lock()
	list := s.t.list
	s.t.mu.Unlock()
	buf, err := s.t.read(ctx, list, 0)
	if err != nil {
		return nil, false, err
	}
	defer s.e.recycle(buf)
	return slices.Clone(*buf), true, nil
}

// sendInline sends a small blob once the limit has room for it. The node hears meanwhile that this one lives.
func (s *session) sendInline(ctx context.Context, data []byte) error {
	n := int64(len(data))
	if delay := spend(s.e.upload, n); delay > 0 {
		room := make(chan struct{})
		timer := time.AfterFunc(delay, func() { close(room) })
		defer timer.Stop()
		if err := s.await(ctx, room); err != nil {
			return s.sendError(err)
		}
	}
	s.e.counters.sentBytes.Add(n)
	return s.stream.Send(&transferpb.RegisterReply{IsInline: true, Inline: data})
}

// takeInline stores a small blob that came whole. Where readers wait for its one piece already, since an earlier run has
// left a partial blob, they get it as that piece.
func (t *task) takeInline(ctx context.Context, at string, data []byte) error {
	n := int64(len(data))
	t.e.received(n, t.zone(at))
	if err := pause(ctx, t.e.arrived(n)); err != nil {
		return err
	}
	if got := oci.FromBytes(t.digest.Algorithm(), data); got != t.digest {
		t.log.Error("meeting point sent another blob", slog.String("peer", at))
		return t.e.distrust(t.digest, at)
	}
	t.mu.Lock()
	repo, list := t.repo, t.list
	t.mu.Unlock()
	if list != nil && list.Count() == 1 && list.Size() == int64(len(data)) {
		return t.write(list, 0, self, false, data)
	}
	return t.keep(ctx, repo, data)
}

// keep stores a small blob whose digest holds and makes the task one of a whole blob.
func (t *task) keep(ctx context.Context, repo oci.Repository, data []byte) error {
	if err := t.e.store.Put(ctx, t.digest, data, originOf(repo)); err != nil {
		t.log.Warn("small blob not stored", slog.Any("error", err))
		return t.keepInMemory(data)
	}
	blob, err := t.e.store.Open(t.digest)
	if err != nil {
		return t.keepInMemory(data)
	}
	t.e.holders.stored(t.digest)
	return t.takeWhole(ctx, blob)
}

// keepInMemory serves a small blob that the disk did not take.
func (t *task) keepInMemory(data []byte) error {
	list := piece.Issue(t.digest, int64(len(data)), piece.SizeFor(int64(len(data))), t.e.cfg.Self.ID)
	return t.takeSmall(data, list)
}

// zone is the zone of a meeting point; this node's own when it is not known.
func (t *task) zone(at string) string {
	if n, ok := t.e.directory.Lookup(at); ok {
		return n.Zone
	}
	return t.e.cfg.Self.Zone
}
