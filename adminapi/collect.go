package adminapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxAsks       = 64  // members that are asked at once
	maxErrorBytes = 300 // of what is shown of an error
)

// Collect asks all members for their view, at most 64 at once, and returns no later than timeout after it has the list
// of members: a member that has not answered by then is shown so. Members that left are not asked. The error is that of
// this node's own view, of its list of members, or of ctx.
func Collect(ctx context.Context, farm Farm, timeout time.Duration) (FarmStatus, error) {
	at := time.Now()
	self, err := farm.Node(ctx)
	if err != nil {
		return FarmStatus{}, fmt.Errorf("this node's view: %w", err)
	}
	members, err := sortedMembers(ctx, farm)
	if err != nil {
		return FarmStatus{}, err
	}
	s := FarmStatus{
		SchemaVersion: SchemaVersion, Farm: self.Farm, AskedAt: at.UTC(), Self: self.ID,
		Members: (&collection{farm: farm, self: self, timeout: timeout}).ask(ctx, members),
	}
	if err := ctx.Err(); err != nil {
		return FarmStatus{}, err
	}
	s.judge()
	return s, nil
}

func sortedMembers(ctx context.Context, farm Farm) ([]Member, error) {
	members, err := farm.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	members = append([]Member{}, members...)
	for i := range members {
		members[i].Addresses = members[i].Addresses.finished()
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return members, nil
}

// A collection is one round of questions.
type collection struct {
	farm    Farm
	self    NodeStatus
	timeout time.Duration
}

// ask returns the members' answers in their order. A slot bounds how many members are asked at once. Who is slow gives
// its slot back and is waited for without one: otherwise 64 members that hang would keep all others from being asked.
// The time in the slot is such that the last member is asked before half the time is over, even if all hang.
func (c *collection) ask(ctx context.Context, members []Member) []MemberStatus {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	out := make([]MemberStatus, len(members))
	slots := make(chan struct{}, maxAsks)
	inSlot := c.timeout * maxAsks / time.Duration(2*max(len(members), maxAsks))
	var asks sync.WaitGroup
	defer asks.Wait()
	for i, m := range members {
		if c.known(m, &out[i]) {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			c.fill(ctx, &out[i], NodeStatus{}, ctx.Err())
			continue
		}
		asks.Go(func() {
			leave := sync.OnceFunc(func() { <-slots })
			defer leave()
			defer time.AfterFunc(inSlot, leave).Stop()
			start := time.Now()
			n, err := c.farm.Ask(ctx, m.ID)
			out[i].Millis = time.Since(start).Milliseconds()
			c.fill(ctx, &out[i], n, err)
		})
	}
	return out
}

// known fills in what is known without asking.
func (c *collection) known(m Member, out *MemberStatus) bool {
	out.Member = m
	switch {
	case m.ID == c.self.ID:
		self := c.self.finished()
		out.Answered, out.Node = true, &self
	case m.State == StateLeft:
		out.Error = "left the farm"
	default:
		return false
	}
	return true
}

func (c *collection) fill(ctx context.Context, out *MemberStatus, n NodeStatus, err error) {
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		out.Error = fmt.Sprintf("no answer within %v", c.timeout)
	case err != nil:
		out.Error = clip(err.Error())
	case n.ID != out.ID:
		out.Error = clip(fmt.Sprintf("another node answers at its address: %q", n.ID))
	default:
		n = n.finished()
		out.Answered, out.Node = true, &n
	}
}

// clip bounds a text at a rune's edge.
func clip(text string) string {
	if len(text) <= maxErrorBytes {
		return text
	}
	end := maxErrorBytes
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
