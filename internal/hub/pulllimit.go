package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// pullLimit counts manifest GETs per source in windows that start with a source's first GET.
type pullLimit struct {
	limit  int // 0: none
	window time.Duration

	mu    sync.Mutex
	count map[string]*pullCount
}

type pullCount struct {
	used int
	ends time.Time
}

func newPullLimit(limit int, window time.Duration) *pullLimit {
	return &pullLimit{limit: limit, window: window, count: map[string]*pullCount{}}
}

func (p *pullLimit) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.count)
}

// take counts a GET of a source; a HEAD is free.
func (p *pullLimit) take(source, method string) (remaining int, ends time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	c := p.count[source]
	if c == nil || now.After(c.ends) {
		c = &pullCount{ends: now.Add(p.window)}
		p.count[source] = c
	}
	if method == http.MethodGet {
		if c.used >= p.limit {
			return 0, c.ends, false
		}
		c.used++
	}
	return p.limit - c.used, c.ends, true
}

// admit sets the rate-limit headers and answers 429 when the limit is used up.
func (p *pullLimit) admit(w http.ResponseWriter, r *http.Request, user, method string) bool {
	if p.limit == 0 {
		return true
	}
	source := user
	if source == "" {
		source = hostname(r.RemoteAddr)
	}
	remaining, ends, ok := p.take(source, method)
	window := int(p.window / time.Second)
	w.Header().Set("Ratelimit-Limit", fmt.Sprintf("%d;w=%d", p.limit, window))
	w.Header().Set("Ratelimit-Remaining", fmt.Sprintf("%d;w=%d", remaining, window))
	w.Header().Set("Docker-Ratelimit-Source", source)
	if ok {
		return true
	}
	wait := time.Until(ends)
	w.Header().Set("Retry-After", strconv.Itoa(int(max(wait+time.Second-1, time.Second)/time.Second)))
	writeError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS",
		"You have reached your pull rate limit. You may increase the limit by authenticating and upgrading.")
	return false
}
