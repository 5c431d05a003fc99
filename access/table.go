package access

import (
	"sync"
	"time"
)

// A table remembers values for a time, and no more of them than its limit: one more pushes out one that was not looked
// at for a while (second chance). Make one with newTable.
type table[K comparable, V any] struct {
	mu    sync.Mutex
	at    map[K]int // index of the slot
	slots []slot[K, V]
	free  []int // indexes of slots that are empty
	hand  int   // the slot that is judged next
	limit int
}

type slot[K comparable, V any] struct {
	key    K
	value  V
	until  time.Time
	filled bool
	used   bool // since the hand last went by
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	return &table[K, V]{at: make(map[K]int), limit: max(1, limit)}
}

// get is what is remembered under k now.
func (t *table[K, V]) get(k K, now time.Time) (value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.at[k]
	if !ok {
		return value, false
	}
	s := &t.slots[i]
	if !now.Before(s.until) {
		t.empty(i)
		return value, false
	}
	s.used = true
	return s.value, true
}

// put remembers value under k until then.
func (t *table[K, V]) put(k K, value V, until time.Time) {
	t.update(k, time.Time{}, func(V, bool) (V, time.Time) { return value, until })
}

// update replaces what is remembered under k now by what change makes of it. change is called under the table's lock:
// it only computes.
func (t *table[K, V]) update(k K, now time.Time, change func(old V, ok bool) (value V, until time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.at[k]
	if !ok {
		i = t.room()
		t.at[k] = i
	}
	s := &t.slots[i]
	s.key, s.used, s.filled = k, ok, true
	s.value, s.until = change(s.value, ok && now.Before(s.until))
}

// room is the index of an empty slot.
func (t *table[K, V]) room() int {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	if len(t.slots) < t.limit {
		t.slots = append(t.slots, slot[K, V]{})
		return len(t.slots) - 1
	}
	for { // twice around at most
		i := t.hand
		t.hand = (t.hand + 1) % len(t.slots)
		if s := &t.slots[i]; s.used {
			s.used = false
			continue
		}
		delete(t.at, t.slots[i].key)
		t.slots[i] = slot[K, V]{}
		return i
	}
}

// forget drops what is remembered under k.
func (t *table[K, V]) forget(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.at[k]; ok {
		t.empty(i)
	}
}

// empty makes slot i free. It needs mu.
func (t *table[K, V]) empty(i int) {
	delete(t.at, t.slots[i].key)
	t.slots[i] = slot[K, V]{}
	t.free = append(t.free, i)
}

// length is how many are remembered, those whose time is over among them.
func (t *table[K, V]) length() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.at)
}
