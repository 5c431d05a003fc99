package adminapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// A member is one node of a farm in memory.
type member struct {
	id    string
	state string
	takes time.Duration // to answer; hangs: for ever
	fails error
	peer  string // address
	node  adminapi.NodeStatus
}

const hangs = time.Duration(-1)

// farm is seen from its first member.
type farm struct {
	members []member
	ready   error
	broken  error // of Node and Members

	asked     sync.Map
	atOnce    atomic.Int64
	maxAtOnce atomic.Int64
}

func newFarm(members ...member) *farm {
	for i := range members {
		m := &members[i]
		if m.state == "" {
			m.state = "active"
		}
		m.node.ID, m.node.Farm, m.node.State = m.id, "test", m.state
		if m.node.Ring.Hash == "" {
			m.node.Ring.Hash = "00000000000000aa"
		}
	}
	return &farm{members: members}
}

func (f *farm) Ready() error { return f.ready }

func (f *farm) Node(context.Context) (adminapi.NodeStatus, error) {
	return f.members[0].node, f.broken
}

func (f *farm) Members(context.Context) ([]adminapi.Member, error) {
	var list []adminapi.Member
	for _, m := range f.members {
		list = append(list, adminapi.Member{
			ID: m.id, State: m.state, Zone: m.node.Zone, Version: m.node.Version,
			Addresses: adminapi.Addresses{Peer: m.peer},
		})
	}
	return list, f.broken
}

func (f *farm) Ask(ctx context.Context, id string) (adminapi.NodeStatus, error) {
	f.asked.Store(id, true)
	now := f.atOnce.Add(1)
	defer f.atOnce.Add(-1)
	for seen := f.maxAtOnce.Load(); now > seen && !f.maxAtOnce.CompareAndSwap(seen, now); {
		seen = f.maxAtOnce.Load()
	}
	for _, m := range f.members {
		if m.id != id {
			continue
		}
		if m.takes == hangs {
			<-ctx.Done()
			return adminapi.NodeStatus{}, ctx.Err()
		}
		select {
		case <-time.After(m.takes):
			return m.node, m.fails
		case <-ctx.Done():
			return adminapi.NodeStatus{}, fmt.Errorf("ask %s: %w", id, ctx.Err())
		}
	}
	return adminapi.NodeStatus{}, errors.New("no such member")
}

// collect asks f with 2 s, and returns how long it took.
func collect(t *testing.T, f *farm) (adminapi.FarmStatus, time.Duration) {
	t.Helper()
	start := time.Now()
	s, err := adminapi.Collect(t.Context(), f, 2*time.Second)
	if err != nil {
		t.Fatalf("Collect() = %v; want no error", err)
	}
	return s, time.Since(start)
}

func byID(t *testing.T, s adminapi.FarmStatus, id string) adminapi.MemberStatus {
	t.Helper()
	for _, m := range s.Members {
		if m.ID == id {
			return m
		}
	}
	t.Fatalf("no member %s in %v", id, s.Members)
	return adminapi.MemberStatus{}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
