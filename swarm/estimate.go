package swarm

import "time"

// An estimate follows a duration as TCP follows its round trip: a mean and its deviation.
type estimate struct {
	mean, dev time.Duration
	n         int
}

func (e *estimate) add(d time.Duration) {
	e.n++
	if e.n == 1 {
		e.mean, e.dev = d, d/2
		return
	}
	diff := d - e.mean
	e.mean += diff / 8
	if diff < 0 {
		diff = -diff
	}
	e.dev += (diff - e.dev) / 4
}

// late is when a wait has taken over twice as long as usual, and longer than what varies.
func (e *estimate) late() time.Duration {
	return max(2*e.mean, e.mean+4*e.dev)
}
