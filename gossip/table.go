package gossip

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// table is all members, this node itself among them, with their places in the
// ring. It knows no network and no clock.
type table struct {
	self     string
	holdDown time.Duration

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one member. It has its place in the ring while ringed is set: from the
// moment that it was active.
type entry struct {
	member Member // as last heard; its State is Gone or Left when it is not there
	meta   []byte

	ringed     bool
	placed     Member    // as it was when last active: what the ring goes by
	placedMeta []byte    //
	inactive   time.Time // since when it has not been active
}

func newTable(self string, holdDown time.Duration) *table {
	return &table{self: self, holdDown: holdDown, entries: make(map[string]*entry)}
}

// alive notes what a member that is there says of itself.
func (t *table) alive(m Member, meta []byte, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[m.ID]
	if !ok {
		e = &entry{inactive: now}
		t.entries[m.ID] = e
	}
	m.RingHash, m.Since, m.Gone = e.member.RingHash, e.member.Since, time.Time{}
	if !ok || m.BootID != e.member.BootID {
		m.Since, m.RingHash = now, 0 // it begins with another ring
	}
	e.member, e.meta = m, slices.Clone(meta)
	e.become(m.State, now)
}

func (e *entry) become(s State, now time.Time) {
	switch s {
	case Active:
		e.ringed, e.placed, e.placedMeta, e.inactive = true, e.member, e.meta, time.Time{}
		return
	case Draining, Left:
		e.ringed = false
	case Joining, Gone:
		// It keeps its place, if it had one, until the hold-down is over.
	}
	if e.inactive.IsZero() {
		e.inactive = now
	}
}

// gone notes that a member is not there any more. One that was draining has left.
func (t *table) gone(id string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[id]
	if !ok || !e.member.Alive() {
		return
	}
	if e.member.State == Active || e.inactive.IsZero() {
		e.inactive = now
	}
	if e.member.State == Draining {
		e.member.State = Left
	} else {
		e.member.State = Gone
	}
	e.member.Gone = now
	e.become(e.member.State, now)
}

// wasActive notes that others had this node itself in the ring with that
// metadata, before it was started anew.
func (t *table) wasActive(m Member, meta []byte, now time.Time) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[m.ID]
	if !ok || e.ringed || e.member.State != Joining || !e.inactive.IsZero() && now.Sub(e.inactive) >= t.holdDown {
		return false
	}
	e.ringed, e.placed, e.placedMeta = true, m, slices.Clone(meta)
	return true
}

// held is one member that another node holds.
type held struct {
	member Member
	meta   []byte
	gone   time.Duration
	left   bool
}

// merge takes over what another node knows of members that are gone, and says
// whether that changed anything.
func (t *table) merge(h held, now time.Time) (changed bool) {
	if h.gone < 0 || h.gone >= t.holdDown {
		return false
	}
	if h.member.ID == t.self {
		return !h.left && t.wasActive(h.member, h.meta, now)
	}
	since := now.Add(-h.gone)
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.entries[h.member.ID]
	switch {
	case !known && !h.left:
		h.member.State, h.member.Since, h.member.Gone = Gone, since, since
		t.entries[h.member.ID] = &entry{
			member: h.member, meta: h.meta, ringed: true,
			placed: h.member, placedMeta: h.meta, inactive: since,
		}
		return true
	case !known:
		return false
	case e.member.State == Gone && h.left && e.member.BootID == h.member.BootID:
		e.member.State, e.ringed = Left, false
		return true
	case e.member.State == Gone && !h.left && e.member.BootID == h.member.BootID && since.Before(e.inactive):
		e.inactive = since // all forget it at one time
		return false
	case e.member.State == Joining && !e.ringed && !h.left:
		e.ringed, e.placed, e.placedMeta, e.inactive = true, h.member, h.meta, since
		return true
	}
	return false
}

// held lists what merge takes on another node.
func (t *table) held(now time.Time) []held {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []held
	for _, e := range t.entries {
		switch {
		case e.member.State == Left:
			out = append(out, held{e.member, e.meta, now.Sub(e.inactive), true})
		case e.ringed && e.member.State != Active:
			out = append(out, held{e.placed, e.placedMeta, now.Sub(e.inactive), false})
		}
	}
	return out
}

// expire drops the places, and the memory, of members whose hold-down is over. It
// says whether that changed anything and when to come again, zero for never.
func (t *table) expire(now time.Time) (changed bool, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, e := range t.entries {
		if e.inactive.IsZero() {
			continue
		}
		end := e.inactive.Add(t.holdDown)
		switch {
		case end.After(now):
			if e.ringed || !e.member.Alive() {
				next = earliest(next, end)
			}
		case !e.member.Alive():
			delete(t.entries, id)
			changed = true
		case e.ringed:
			e.ringed = false
			changed = true
		}
	}
	return changed, next
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// members lists all members, sorted by ID.
func (t *table) members() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, e.member)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// ring lists the members with a place in the ring, sorted by ID. What places
// blobs is as it was when they were last active, the rest as last heard.
func (t *table) ring() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Member
	for _, id := range slices.Sorted(maps.Keys(t.entries)) {
		if e := t.entries[id]; e.ringed {
			m := e.member
			m.Zone, m.Egress = e.placed.Zone, e.placed.Egress
			out = append(out, m)
		}
	}
	return out
}

// member returns one member.
func (t *table) member(id string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[id]
	if !ok {
		return Member{}, false
	}
	return e.member, true
}

// drop forgets members at once, with their places, and lists them.
func (t *table) drop(refused func(id string) bool) []Member {
	var out []Member
	for _, m := range t.members() {
		if !refused(m.ID) {
			continue
		}
		t.mu.Lock()
		delete(t.entries, m.ID)
		t.mu.Unlock()
		out = append(out, m)
	}
	return out
}

// setRingHash notes the ring hash that a member had.
func (t *table) setRingHash(id string, hash uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[id]; ok {
		e.member.RingHash = hash
	}
}
