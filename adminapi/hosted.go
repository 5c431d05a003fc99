package adminapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A CatalogPart is what a node says of the farm's catalog in its own view.
type CatalogPart struct {
	State   string `json:"state"`  // one of the catalog states
	ID      string `json:"id"`     // of the catalog; "" while the node knows none
	Leader  string `json:"leader"` // id of a node; "" while none is known
	Commit  uint64 `json:"commit"` // index of the last command that a majority of voters has
	Applied uint64 `json:"applied"`
	Trouble string `json:"trouble"` // what a person should look into; ""
}

// The catalog states of a node. Two more begin with what the prefixes say.
const (
	CatalogVoter           = "voter"
	CatalogNonVoter        = "non-voter"
	CatalogNoQuorum        = "no quorum"
	CatalogWaiting         = "waiting for a catalog"
	CatalogSeedListsDiffer = "seed lists differ"
	CatalogLost            = "catalog lost"

	catalogWaitingForSeeds = "waiting for seeds (" // n of m)
	catalogRefused         = "refused"             // : why
)

// A HostedPart is what a node keeps of what was pushed to the farm.
type HostedPart struct {
	Prefix      string `json:"prefix"` // first element of the names that can be pushed
	Blobs       int    `json:"blobs"`  // kept here
	Bytes       int64  `json:"bytes"`
	BelowCopies int    `json:"below_copies"` // that have fewer copies than they should; each is counted by one node
	Repairing   int    `json:"repairing"`    // that are being copied again
	Uploads     int    `json:"uploads"`      // under way here, abandoned ones counted
	Copies      int    `json:"copies"`       // how many the node wants of each blob
}

// A FarmCatalog is the catalog that most members know.
type FarmCatalog struct {
	ID     string         `json:"id"`     // "" while no member knows one
	Leader string         `json:"leader"` // id of a node; "" while no member knows one
	Commit uint64         `json:"commit"`
	Voters int            `json:"voters"` // members that are voters
	States map[string]int `json:"states"` // of members, with how many are in each
}

// startTime is how long a node may look for its catalog before that is worth a warning.
const startTime = time.Minute

// settled tells whether a node in that state can ask the catalog.
func settled(state string) bool { return state == CatalogVoter || state == CatalogNonVoter }

// waits tells whether a node in that state still looks for a catalog.
func waits(state string) bool {
	return state == CatalogWaiting || state == CatalogLost || strings.HasPrefix(state, catalogWaitingForSeeds)
}

// sumHosted works out what the farm keeps of its own; nil when no member says.
func (s *FarmStatus) sumHosted() {
	for _, m := range s.Members {
		if m.Node == nil || m.Node.Hosted == nil {
			continue
		}
		if s.Hosted == nil {
			s.Hosted = &HostedPart{Prefix: m.Node.Hosted.Prefix}
		}
		s.Hosted.Blobs += m.Node.Hosted.Blobs
		s.Hosted.Bytes += m.Node.Hosted.Bytes
		s.Hosted.BelowCopies += m.Node.Hosted.BelowCopies
		s.Hosted.Repairing += m.Node.Hosted.Repairing
		s.Hosted.Uploads += m.Node.Hosted.Uploads
		s.Hosted.Copies = max(s.Hosted.Copies, m.Node.Hosted.Copies)
	}
}

// sumCatalog works out which catalog most members know; nil when no member says. The leader is the one that the
// member names who is furthest.
func (s *FarmStatus) sumCatalog() {
	known := map[string]int{}
	var c FarmCatalog
	for _, p := range s.catalogParts() {
		if c.States == nil {
			c.States = map[string]int{}
		}
		c.States[p.State]++
		if p.ID != "" {
			known[p.ID]++
		}
	}
	if c.States == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if known[id] > known[c.ID] {
			c.ID = id
		}
	}
	for _, p := range s.catalogParts() {
		if p.ID != c.ID {
			continue
		}
		if p.Leader != "" && (c.Leader == "" || p.Commit > c.Commit) {
			c.Leader = p.Leader
		}
		c.Commit = max(c.Commit, p.Commit)
		if p.State == CatalogVoter {
			c.Voters++
		}
	}
	s.Catalog = &c
	if len(known) > 1 {
		s.warnFarm(WarnCatalog, fmt.Sprintf("members know %d catalogs, where there should be one: %s",
			len(known), strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
	}
}

func (s *FarmStatus) catalogParts() []*CatalogPart {
	var parts []*CatalogPart
	for _, m := range s.Members {
		if m.Node != nil && m.Node.Catalog != nil {
			parts = append(parts, m.Node.Catalog)
		}
	}
	return parts
}

// warnFarm adds a warning about the farm that says that an operator should look.
func (s *FarmStatus) warnFarm(kind, text string) {
	s.Warnings = append(s.Warnings, Warning{Kind: kind, Text: clip(text)})
	s.Degraded = true
}

// warnAboutCatalog points out what keeps members from asking the catalog: each cause once, however many members it
// holds for.
func (s *FarmStatus) warnAboutCatalog() {
	causes := map[string][]string{} // members by text
	for _, m := range s.Members {
		if m.Node == nil || m.Node.Catalog == nil {
			continue
		}
		p := m.Node.Catalog
		text := p.Trouble
		if !settled(p.State) {
			text = p.State
			if waits(p.State) && time.Duration(m.Node.UptimeSeconds)*time.Second < startTime {
				continue
			}
		}
		if text != "" {
			causes[text] = append(causes[text], m.ID)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(causes)) {
		w := Warning{Kind: WarnCatalog, Text: clip(text)}
		if ids := causes[text]; len(ids) == 1 && len(s.Members) > 1 {
			w.Member = ids[0]
		} else {
			w.Text = clip(fmt.Sprintf("%s, on %d of %d members", text, len(ids), s.Totals.Members))
		}
		s.Warnings = append(s.Warnings, w)
		s.Degraded = true
	}
}

// warnAboutCopies points out hosted blobs that the loss of a few nodes would lose.
func (s *FarmStatus) warnAboutCopies() {
	wanted, prefixes := map[int]bool{}, map[string]bool{}
	for _, m := range s.Members {
		if m.Node != nil && m.Node.Hosted != nil {
			wanted[m.Node.Hosted.Copies] = true
			prefixes[m.Node.Hosted.Prefix] = true
		}
	}
	if len(wanted) > 1 {
		s.warnFarm(WarnCopies, fmt.Sprintf("hosted.copies is not the same on all members: %v", slices.Sorted(maps.Keys(wanted))))
	}
	if len(prefixes) > 1 {
		s.warnFarm(WarnCopies, fmt.Sprintf("hosted.prefix is not the same on all members: %q", slices.Sorted(maps.Keys(prefixes))))
	}
	if s.Hosted == nil || s.Hosted.BelowCopies == 0 {
		return
	}
	s.warnFarm(WarnCopies, fmt.Sprintf("hosted blobs with fewer than %d copies: %d; being copied again: %d",
		s.Hosted.Copies, s.Hosted.BelowCopies, s.Hosted.Repairing))
}
