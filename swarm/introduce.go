package swarm

// Importer is the member that fetches for a zone from outside; false: the zone is the
// owner's, or has no member.
func (r *Register) Importer(zone string) (Peer, bool) {
	if zone == r.cfg.Zone {
		return none, false
	}
	if m := r.importer(zone); m != nil {
		return m.id, true
	}
	return none, false
}

// importer is the node that the driver names, once it is a member; else the one that came
// first and is still there.
func (r *Register) importer(name string) *member {
	z := r.zones[name]
	if z == nil {
		return nil
	}
	if r.cfg.Importer != nil {
		if p, ok := r.cfg.Importer(name); ok {
			if m := r.members[p]; m != nil && m.zone == name {
				z.importer = m
			}
		}
	}
	if z.importer == nil && len(z.members) > 0 {
		z.importer = z.members[0]
	}
	return z.importer
}

// retarget lets the seeder push to the members of the owner's zone. Only while it has none
// there it pushes to the importers: a piece that goes to an importer first has to come back
// over the border.
func (r *Register) retarget(name string) {
	if z := r.zones[name]; name != r.cfg.Zone && z != nil {
		r.pushTo(z, r.importer(name))
		return
	}
	for other, z := range r.zones {
		if other != r.cfg.Zone {
			r.pushTo(z, r.importer(other))
		}
	}
}

// pushTo makes a zone's importer the zone's only target, or nobody while the owner's zone
// has targets.
func (r *Register) pushTo(z *zone, imp *member) {
	to := none
	if r.home == 0 && imp != nil {
		to = imp.id
	}
	if z.target == to {
		return
	}
	if z.target != none {
		r.seeder.RetireTarget(z.target)
	}
	if z.target = to; to != none {
		r.seeder.AddTarget(to, nil)
	}
}

// crosses tells whether a member may have neighbours in other zones.
func (r *Register) crosses(m *member) bool {
	return m.zone == r.cfg.Zone || m.stalled || r.importer(m.zone) == m
}

// introduce gives m up to n new neighbours: holders first, half from the own zone, the rest
// from anywhere that the zones allow.
func (r *Register) introduce(m *member, n int, level bool) []Peer {
	r.result = r.result[:0]
	clear(r.seen)
	r.seen[m.id] = struct{}{}
	if n <= 0 {
		return nil
	}
	for _, q := range m.links {
		r.seen[q] = struct{}{}
	}
	if imp := r.importer(m.zone); imp != nil && m.zone != r.cfg.Zone {
		r.link(m, imp)
	}
	if len(r.holders) > 0 {
		for range 2 {
			r.link(m, r.members[r.holders[r.rng.IntN(len(r.holders))]])
		}
	}
	own := r.zones[m.zone].members
	half := n / 2
	if !r.crosses(m) || len(r.all) == len(own) {
		half = n
	}
	r.draw(m, own, half, level)
	if r.crosses(m) {
		r.draw(m, r.all, n, level)
	}
	r.draw(m, own, n, level)
	return r.result
}

// draw links m with random members of a list until it has been given n; with level rather
// with those that have fewer neighbours, since who has fewer than the others gets less.
func (r *Register) draw(m *member, from []*member, n int, level bool) {
	for try := 0; len(r.result) < n && try < 6*n; try++ {
		o := from[r.rng.IntN(len(from))]
		if r.cfg.Connected != nil && !r.cfg.Connected(m.id, o.id) {
			// A second look for one that costs no new connection.
			if q := from[r.rng.IntN(len(from))]; r.cfg.Connected(m.id, q.id) {
				o = q
			}
		}
		if q := from[r.rng.IntN(len(from))]; level && q.degree < o.degree {
			o = q
		}
		if o.degree < r.cfg.MostNeighbours || try >= 4*n {
			r.link(m, o)
		}
	}
	if len(r.result) >= n || len(from) > 8*n {
		return
	}
	for _, k := range r.rng.Perm(len(from)) { // few are left: take them one by one
		if len(r.result) < n {
			r.link(m, from[k])
		}
	}
}

// link makes two members neighbours unless they are, or the zones forbid it.
func (r *Register) link(m, o *member) {
	if _, ok := r.seen[o.id]; ok || m.zone != o.zone && !(r.crosses(m) && r.crosses(o)) && !m.stalled {
		return
	}
	r.seen[o.id] = struct{}{}
	r.result = append(r.result, o.id)
	m.links, o.links = append(m.links, o.id), append(o.links, m.id)
	m.degree++
	o.degree++
}
