package adminapi

import (
	"fmt"
	"maps"
	"slices"
)

// The kinds of warnings.
const (
	WarnUnreachable = "unreachable" // a member did not answer
	WarnAlarm       = "alarm"       // a member works worse than it should
	WarnRing        = "ring"        // members disagree about who owns what
	WarnUpstream    = "upstream"    // members cannot reach an upstream; a degradation when none can
	WarnCatalog     = "catalog"     // members cannot ask the catalog, or it is in trouble
	WarnCopies      = "copies"      // hosted blobs have fewer copies than they should
	WarnTrust       = "trust"       // members do not prove who they are: the operator has said so, so it is no degradation; else trouble with one's trust
)

// A Warning is something that an operator should look at.
type Warning struct {
	Kind   string `json:"kind"`
	Member string `json:"member"` // id; "" when it is about the farm
	Text   string `json:"text"`
}

// judge works out what follows from the members' answers.
func (s *FarmStatus) judge() {
	s.Totals = Sum(s.Members)
	s.Ring = s.compareRings()
	s.Warnings = []Warning{}
	for _, m := range s.Members {
		s.warnAbout(m)
	}
	s.Degraded = len(s.Warnings) > 0
	s.sumHosted()
	s.sumCatalog()
	s.sumTrust()
	s.warnAboutCatalog()
	s.warnAboutCopies()
	s.warnAboutUpstreams()
	s.warnAboutTrust()
}

func (s *FarmStatus) warnAbout(m MemberStatus) {
	warn := func(kind, text string) {
		s.Warnings = append(s.Warnings, Warning{Kind: kind, Member: m.ID, Text: clip(text)})
	}
	if m.Node == nil {
		if m.State != StateLeft {
			warn(WarnUnreachable, m.silence())
		}
		return
	}
	if m.Node.Store.Alarm != "" {
		warn(WarnAlarm, m.Node.Store.Alarm)
	}
	for _, text := range m.Node.Alarms {
		if text != m.Node.Store.Alarm {
			warn(WarnAlarm, text)
		}
	}
	if hash := m.Node.Ring.Hash; s.Ring.Differs(hash) {
		warn(WarnRing, fmt.Sprintf("its ring is %s, that of most is %s", hash, s.Ring.Hash))
	}
	for _, text := range m.Node.RingDisagreements {
		warn(WarnRing, text)
	}
}

// silence says of a member that it is not there, and where it was looked for.
func (m MemberStatus) silence() string {
	at := m.Addresses.Peer
	switch {
	case m.State == StateGone && at == "":
		return "is gone"
	case m.State == StateGone:
		return fmt.Sprintf("is gone (%s)", at)
	case at == "":
		return "does not answer: " + m.Error
	}
	return fmt.Sprintf("does not answer: %s: %s", at, m.Error)
}

// reach counts the members by how they stand with one upstream.
type reach struct{ members, reaching, cut int }

// warnAboutUpstreams points out the upstreams that members have given up for the moment. As long as one member reaches
// an upstream, the others get its blobs from that one.
func (s *FarmStatus) warnAboutUpstreams() {
	upstreams := map[string]reach{}
	for _, m := range s.Members {
		if m.Node == nil {
			continue
		}
		for name, link := range m.Node.Upstream.Upstreams {
			r := upstreams[name]
			r.members++
			switch {
			case link.OpenBreaker:
				r.cut++
			case link.Requests > 0: // who has not asked does not know
				r.reaching++
			}
			upstreams[name] = r
		}
	}
	for _, name := range slices.Sorted(maps.Keys(upstreams)) {
		r := upstreams[name]
		if r.cut == 0 {
			continue
		}
		s.Degraded = s.Degraded || r.reaching == 0
		s.Warnings = append(s.Warnings, Warning{Kind: WarnUpstream, Text: clip(fmt.Sprintf(
			"%s cannot be reached from %d of %d members", name, r.cut, r.members))})
	}
}

// Differs tells whether a member's ring of that hash is not the one that most have. A member without a ring yet ("")
// does not differ.
func (r FarmRing) Differs(hash string) bool { return hash != "" && hash != r.Hash }

// compareRings finds the ring that most have: of two that as many have, that of the node that asked.
func (s *FarmStatus) compareRings() FarmRing {
	count := map[string]int{}
	own := ""
	for _, m := range s.Members {
		if m.Node == nil || m.Node.Ring.Hash == "" {
			continue
		}
		count[m.Node.Ring.Hash]++
		if m.ID == s.Self {
			own = m.Node.Ring.Hash
		}
	}
	r := FarmRing{Hash: own, Agree: len(count) < 2}
	for hash, n := range count {
		if n > count[r.Hash] || n == count[r.Hash] && r.Hash != own && hash < r.Hash {
			r.Hash = hash
		}
	}
	return r
}
