package trust

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Bounds of the join door. Anybody can knock.
const (
	doorQueue    = 64  // connections that nobody has looked at yet
	doorAtOnce   = 512 // those that somebody has
	doorWaiting  = 128 // of these, those that are past their handshake and have asked nothing yet
	doorPatience = 5 * time.Second
)

// A doorkeeper has the connections that came to the join door.
type doorkeeper struct {
	arrived chan net.Conn

	mu      sync.Mutex
	shut    bool
	waiting []net.Conn // that are to ask; the longest first
}

// TakeDoor takes a connection that wants to speak TLS and came to the port of gossip. It does not block. The connection is
// closed by t: at once when Run does not run, or too many are there.
func (t *Trust) TakeDoor(c net.Conn) {
	d := &t.clerk.door
	d.mu.Lock()
	taken := false
	if !d.shut {
		select {
		case d.arrived <- c:
			taken = true
		default:
		}
	}
	d.mu.Unlock()
	if !taken {
		_ = c.Close()
	}
}

// keepDoor answers at the join door until ctx ends.
func (t *Trust) keepDoor(ctx context.Context) error {
	d := &t.clerk.door
	d.open()
	var g errgroup.Group
	g.SetLimit(doorAtOnce)
	defer func() { _ = g.Wait() }()
	for {
		select {
		case <-ctx.Done():
			d.close()
			return ctx.Err()
		case c := <-d.arrived:
			if !g.TryGo(func() error { t.serveDoor(ctx, c); return nil }) {
				_ = c.Close()
			}
		}
	}
}

func (d *doorkeeper) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = false
}

// close takes no more connections, and ends those that nobody has looked at.
func (d *doorkeeper) close() {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	for {
		select {
		case c := <-d.arrived:
			_ = c.Close()
		default:
			return
		}
	}
}

// serveDoor answers one question.
func (t *Trust) serveDoor(ctx context.Context, raw net.Conn) {
	q, c, err := t.question(ctx, raw)
	if err != nil {
		return // counted where it was refused
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, doorPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	a, err := t.decide(ctx, q, applicant{leaf: c.Peer})
	if err != nil {
		t.noteRefused(ctx, raw.RemoteAddr(), err)
		a = answerFor(err)
	}
	_ = writeMessage(c, a) // who asked is gone, or will ask again
}

// question is what somebody asks, after the handshake.
func (t *Trust) question(ctx context.Context, raw net.Conn) (*trustpb.Question, *doorConn, error) {
	ctx, cancel := context.WithTimeout(ctx, doorPatience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	c, err := t.acceptDoor(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	t.clerk.door.wait(raw)
	q, err := readQuestion(c)
	t.clerk.door.asked(raw)
	if err != nil {
		t.refused.count(badRequest, raw.RemoteAddr(), err)
		_ = c.Close()
		return nil, nil, err
	}
	return q, c, nil
}

// wait notes that c is to ask. When too many are, who has been silent longest goes: members speak at once.
func (d *doorkeeper) wait(c net.Conn) {
	d.mu.Lock()
	var out net.Conn
	if len(d.waiting) >= doorWaiting {
		out, d.waiting = d.waiting[0], d.waiting[1:]
	}
	d.waiting = append(d.waiting, c)
	d.mu.Unlock()
	if out != nil {
		_ = out.Close()
	}
}

func (d *doorkeeper) asked(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, other := range d.waiting {
		if other == c {
			d.waiting = append(d.waiting[:i:i], d.waiting[i+1:]...)
			return
		}
	}
}

// decide answers a question here, or has a voter do it.
func (t *Trust) decide(ctx context.Context, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	s, err := t.signer()
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelError, "the farm's authority cannot be used", slog.Any("error", err))
	}
	if s != nil {
		return t.answer(ctx, s, q, who)
	}
	return t.askVoters(ctx, q, who)
}

// noteRefused counts a question at the join door that was not answered with what it asked for.
func (t *Trust) noteRefused(ctx context.Context, from net.Addr, err error) {
	switch {
	case errors.Is(err, ErrRevoked):
		t.refused.count(revokedNode, from, err)
	case errors.Is(err, ErrTooOld):
		t.refused.count(runOut, from, err)
	case errors.Is(err, ErrBadRequest), errors.Is(err, ErrTaken):
		t.refused.count(badRequest, from, err)
	case errors.Is(err, ErrBadToken), errors.Is(err, ErrTokenExpired), errors.Is(err, ErrTokenUsedUp), errors.Is(err, errBusy):
		t.refused.count(badToken, from, err)
	default:
		t.noteUnanswered(ctx, err)
	}
}

// noteUnanswered tells of a question on which nothing was decided.
func (t *Trust) noteUnanswered(ctx context.Context, err error) {
	if !definite(err) && !errors.Is(err, errBusy) {
		t.log.LogAttrs(ctx, slog.LevelDebug, "question about trust not answered", slog.Any("error", err))
	}
}
