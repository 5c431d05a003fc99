package upstream

import (
	"sync"
	"time"
)

// rangelessFor is how long an upstream that has answered a range with the whole blob counts as one that gives no ranges.
const rangelessFor = 5 * time.Minute

// ranges remembers whether an upstream gives ranges.
type ranges struct {
	mu    sync.Mutex
	until time.Time // it counts as one that gives none
}

// note takes in how an answer to the question for a range was.
func (r *ranges) note(given bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until = (time.Time{}); !given {
		r.until = time.Now().Add(rangelessFor)
	}
}

// Ranges tells whether the upstream gives ranges, as far as is known: one that has just answered such a question with
// the whole blob does not.
func (c *Client) Ranges() bool {
	c.ranges.mu.Lock()
	defer c.ranges.mu.Unlock()
	return !time.Now().Before(c.ranges.until)
}
