package catalog

import "github.com/pullonce/pullonce/oci"

func (p PutPin) apply(s *state, _ *Result) error {
	s.putPin(pinItem{p.Name, s.digest(p.Digest), toNanos(p.Until)})
	return nil
}

func (u Unpin) apply(s *state, _ *Result) error {
	if !s.removePin(u.Name) {
		return notFound("pin of %s", u.Name)
	}
	return nil
}

// putPin keeps a pin in place of an older one. One that has ended already ends with the next command.
func (s *state) putPin(p pinItem) {
	s.removePin(p.name)
	s.pins.put(p)
	if p.until != 0 {
		s.expiries.put(expiryItem{at: p.until, pin: p.name})
	}
}

func (s *state) removePin(name string) bool {
	p, ok := s.pins.remove(pinItem{name: name})
	if ok {
		s.expiries.remove(expiryItem{at: p.until, pin: name})
	}
	return ok
}

func (t TakeLease) apply(s *state, r *Result) error {
	l, held := s.leases.get(leaseItem{digest: t.Digest})
	if !held || l.node == t.Node || !l.holds(s.clock) {
		l = leaseItem{s.digest(t.Digest), t.Node, s.clock + int64(t.TTL)}
		s.putLease(l)
	}
	r.Holder, r.Until = l.node, fromNanos(l.until)
	return nil
}

// holds tells whether a lease lasts at a time. One that would last longer than any is given for was given by a clock
// that was ahead, and does not.
func (l leaseItem) holds(now int64) bool {
	return l.until > now && l.until-now <= int64(maxLease)
}

func (l ReleaseLease) apply(s *state, _ *Result) error {
	if held, ok := s.leases.get(leaseItem{digest: l.Digest}); ok && held.node == l.Node {
		s.removeLease(l.Digest)
	}
	return nil
}

func (s *state) putLease(l leaseItem) {
	s.removeLease(l.digest)
	s.leases.put(l)
	s.expiries.put(expiryItem{at: l.until, blob: l.digest})
}

func (s *state) removeLease(d oci.Digest) {
	if l, ok := s.leases.remove(leaseItem{digest: d}); ok {
		s.expiries.remove(expiryItem{at: l.until, blob: d})
	}
}
