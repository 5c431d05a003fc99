package catalog

import (
	"errors"
	"fmt"
	"time"
)

// An outage is the memory of a leader that was looked for in vain, so that of many requests not each has to look.
type outage struct {
	met     time.Time // a leader was known last
	lasts   bool      // the last that looked for the leader as long as it may found none
	leader  string    // who was taken for the leader then, or ""
	probing bool      // somebody looks, on behalf of all
}

// lookForLeader notes whether a leader is known.
func (c *Catalog) lookForLeader() {
	if c.leaderKnown() == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outage.met = time.Now()
}

// leaderKnown is the node that this one takes for the leader, or "".
func (c *Catalog) leaderKnown() string {
	if r := c.current(); r != nil && r.leads() {
		return c.cfg.Node
	}
	return c.route().leader
}

// seek lets a request look for the leader, unless there is no use in it: none has been known for as long as the request
// would wait for one, or the one that is known does not answer, and another request is finding out whether it does
// again. Then it is ErrNoQuorum at once. What the request came to is to be told to found.
func (c *Catalog) seek() (found func(error), err error) {
	c.mu.Lock()
	o, started := c.outage, c.started
	c.mu.Unlock()
	if o.met.Before(started) {
		o.met = started
	}
	lonely, leader := time.Since(o.met), ""
	if o.lasts || lonely > c.cfg.Patience {
		leader = c.leaderKnown()
	}
	if lonely > c.cfg.Patience && !started.IsZero() && leader == "" {
		return nil, fmt.Errorf("%w: no leader has been known for %v", ErrNoQuorum, lonely.Round(time.Second))
	}
	probe := o.lasts && (leader == "" || leader == o.leader)
	if probe && !c.probe() {
		return nil, fmt.Errorf("%w: no leader answered a moment ago", ErrNoQuorum)
	}
	began := time.Now()
	return func(err error) { c.sought(began, probe, err) }, nil
}

// probe tells whether nobody else looks.
func (c *Catalog) probe() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := !c.outage.probing
	c.outage.probing = true
	return mine
}

// sought notes what a request came to that began then. One that gave up early says nothing.
func (c *Catalog) sought(began time.Time, probe bool, err error) {
	failed := errors.Is(err, errNoLeader)
	leader := ""
	if failed {
		leader = c.leaderKnown()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if probe {
		c.outage.probing = false
	}
	switch {
	case !failed:
		c.outage.lasts = false
	case time.Since(began) >= c.cfg.Patience*9/10:
		c.outage.lasts, c.outage.leader = true, leader
	}
}
