package upstream

import (
	"sync"
	"time"
)

// A cache maps keys to values that expire. It is bounded: at its limit it drops what has expired, and then any entry,
// since whatever is dropped here is only asked for once more. The libraries' caches keep a goroutine for this.
type cache[K comparable, V any] struct {
	limit int

	mu      sync.Mutex
	entries map[K]entry[V]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, entries: make(map[K]entry[V])}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || !time.Now().Before(e.expires) {
		return value, false
	}
	return e.value, true
}

func (c *cache[K, V]) put(key K, value V, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; !ok && len(c.entries) >= c.limit {
		c.shrink()
	}
	c.entries[key] = entry[V]{value, time.Now().Add(ttl)}
}

// renew is get that makes the entry last for ttl from now on.
func (c *cache[K, V]) renew(key K, ttl time.Duration) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	now := time.Now()
	if !ok || !now.Before(e.expires) {
		return value, false
	}
	e.expires = now.Add(ttl)
	c.entries[key] = e
	return e.value, true
}

// keep puts value unless there is one for key already; it is the one that is kept.
func (c *cache[K, V]) keep(key K, value V, ttl time.Duration) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e, ok := c.entries[key]
	if ok && now.Before(e.expires) {
		return e.value
	}
	if !ok && len(c.entries) >= c.limit {
		c.shrink()
	}
	c.entries[key] = entry[V]{value, now.Add(ttl)}
	return value
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
}

// dropIf forgets key if its value is one that same accepts: another request may have renewed it meanwhile.
func (c *cache[K, V]) dropIf(key K, same func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok && same(e.value) {
		delete(c.entries, key)
	}
}

func (c *cache[K, V]) shrink() {
	now := time.Now()
	for key, e := range c.entries {
		if !now.Before(e.expires) {
			delete(c.entries, key)
		}
	}
	for key := range c.entries {
		if len(c.entries) < c.limit {
			return
		}
		delete(c.entries, key)
	}
}
