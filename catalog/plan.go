package catalog

import (
	"cmp"
	"slices"
	"time"
)

// A standing is a replica in the configuration, as the leader sees it.
type standing struct {
	name, node, zone string
	voter            bool
	self             bool
	silent           bool // it does not answer now
	gone             bool // for good: silent for too long, or another replica took its place
	leaving          bool
	near             bool // it has nearly all of the log
	late             bool // it has had long enough to get near
	since            time.Time
}

// A candidate is a member that could keep a replica and keeps none.
type candidate struct {
	node, zone string
	since      time.Time
}

// A move is the next change to the configuration, one replica at a time.
type move struct {
	kind moveKind
	name string // of the replica to promote, remove or hand over from
	node string // of the replica to add or remove
}

type moveKind int

const (
	stay     moveKind = iota
	add               // a replica on node, without a vote
	promote           // give name a vote
	remove            // take name out
	handOver          // this leader leaves: another should lead first
)

// votersFor is how many voters a farm of so many members has.
func votersFor(members int) int {
	switch {
	case members >= 5:
		return 5
	case members >= 3:
		return 3
	}
	return max(members, 1)
}

// plan is the leader's next move. Who is to go goes only after the other has come, and no move is made after which the
// voters that answer now would be no majority; one that is only suspected is waited for.
func plan(servers []standing, candidates []candidate, members int, settled func(candidate) bool) move {
	m := choose(servers, candidates, members, settled)
	voters, answering := 0, 0
	for _, s := range servers {
		counts := s.voter && !(m.kind == remove && s.name == m.name) || m.kind == promote && s.name == m.name
		voters += b2i(counts)
		answering += b2i(counts && !s.silent)
	}
	if answering <= voters/2 {
		return move{}
	}
	return m
}

func choose(servers []standing, candidates []candidate, members int, settled func(candidate) bool) move {
	var voters, good []standing
	for _, s := range servers {
		if s.voter {
			voters = append(voters, s)
			if !s.gone && !s.leaving {
				good = append(good, s)
			}
		}
	}
	want := votersFor(members)
	crowded, sparse := spread(good, candidates, settled)
	for _, s := range servers {
		if s.voter {
			continue
		}
		switch {
		case s.gone || s.leaving || (s.late && !s.near):
			return move{remove, s.name, s.node}
		case len(good) >= want && !worth(good, s.zone):
			return move{remove, s.name, s.node}
		case s.near:
			return move{promote, s.name, s.node}
		}
		return move{} // it is catching up
	}
	if len(good) < want && len(candidates) > 0 {
		return move{add, "", best(good, candidates).node}
	}
	for _, s := range voters {
		if (s.gone || s.leaving) && (len(good) >= want || len(candidates) == 0 && s.leaving && len(good) > 0) {
			if s.self {
				return move{handOver, s.name, s.node}
			}
			return move{remove, s.name, s.node}
		}
	}
	if len(good) > want && !slices.ContainsFunc(good, func(s standing) bool { return s.silent }) {
		s := surplus(good)
		return move{remove, s.name, s.node}
	}
	if crowded && len(good) <= want {
		return move{add, "", sparse.node}
	}
	return move{}
}

// best is the candidate from the zone with the fewest voters; of those the one that has been there longest.
func best(good []standing, candidates []candidate) candidate {
	zones := count(good)
	return slices.MinFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(zones[a.zone], zones[b.zone]), a.since.Compare(b.since), cmp.Compare(a.node, b.node))
	})
}

// surplus is the voter to do without: of the zone with the most, the one that came last; never this leader.
func surplus(good []standing) standing {
	zones := count(good)
	others := slices.DeleteFunc(slices.Clone(good), func(s standing) bool { return s.self })
	return slices.MaxFunc(others, func(a, b standing) int {
		return cmp.Or(cmp.Compare(zones[a.zone], zones[b.zone]), a.since.Compare(b.since), cmp.Compare(a.node, b.node))
	})
}

func count(good []standing) map[string]int {
	zones := map[string]int{}
	for _, s := range good {
		zones[s.zone]++
	}
	return zones
}

// spread tells whether a candidate that has been there for a while is worth a change, and which.
func spread(good []standing, candidates []candidate, settled func(candidate) bool) (bool, candidate) {
	ready := slices.DeleteFunc(slices.Clone(candidates), func(c candidate) bool { return !settled(c) })
	if len(ready) == 0 {
		return false, candidate{}
	}
	c := best(good, ready)
	return worth(good, c.zone), c
}

// worth tells whether a voter more in zone, for one less in the zone with the most, would spread them better. The
// leader itself is not sent away.
func worth(good []standing, zone string) bool {
	zones, most := count(good), 0
	for _, s := range good {
		if !s.self {
			most = max(most, zones[s.zone])
		}
	}
	return most-zones[zone] >= 2
}
