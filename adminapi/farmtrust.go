package adminapi

import (
	"fmt"
	"time"
)

const (
	// certificateWarning is how long before its end a certificate is pointed out: it should have been renewed ten days
	// after its middle.
	certificateWarning = 5 * 24 * time.Hour
	// epochPatience is how long members may take to hear of a change of the farm's trust.
	epochPatience = 2 * time.Minute
)

// FarmTrust is the farm's trust, of the members that answered.
type FarmTrust struct {
	Modes map[string]int `json:"modes"` // how many members are in each
	CA    string         `json:"ca"`    // that of those who know most of the farm's trust; so with what follows
	Epoch uint64         `json:"epoch"`
	// CertificateEnd is when the first certificate runs out, zero when there is none.
	CertificateEnd time.Time `json:"certificate_end,omitzero"`
	Revoked        []string  `json:"revoked"`

	since time.Time // when the first member knew the epoch
}

// sumTrust works out the farm's trust.
func (s *FarmStatus) sumTrust() {
	t := &FarmTrust{Modes: map[string]int{}, Revoked: []string{}}
	for _, m := range s.Members {
		if m.Node == nil || m.Node.Trust == "" && m.Node.TrustPart == nil {
			continue
		}
		t.add(m.Node)
	}
	if len(t.Modes) > 0 {
		s.Trust = t
	}
}

func (t *FarmTrust) add(n *NodeStatus) {
	p := n.TrustPart
	if p == nil {
		t.Modes[n.Trust]++
		return
	}
	t.Modes[p.Mode]++
	if end := p.CertificateEnd; !end.IsZero() && (t.CertificateEnd.IsZero() || end.Before(t.CertificateEnd)) {
		t.CertificateEnd = end
	}
	if p.Epoch > t.Epoch || p.Epoch == t.Epoch && t.CA == "" {
		t.CA, t.Epoch, t.Revoked, t.since = p.CA, p.Epoch, p.Revoked, p.EpochSince
	}
	if p.Epoch == t.Epoch && !p.EpochSince.IsZero() && p.EpochSince.Before(t.since) {
		t.since = p.EpochSince
	}
}

// warnAboutTrust points out certificates that were not renewed, and members that have not heard of what others know.
func (s *FarmStatus) warnAboutTrust() {
	for _, m := range s.Members {
		if m.Node == nil || m.Node.TrustPart == nil {
			continue
		}
		for _, text := range s.Trust.wrongWith(*m.Node.TrustPart, s.AskedAt) {
			s.Degraded = true
			s.Warnings = append(s.Warnings, Warning{Kind: WarnTrust, Member: m.ID, Text: text})
		}
	}
	if n := s.untrusted(); n > 0 {
		s.Warnings = append(s.Warnings, Warning{Kind: WarnTrust, Text: fmt.Sprintf(
			"trust mode is none on %d of %d members: whoever reaches their ports can read and offer blobs",
			n, s.Totals.Answered)})
	}
}

func (s *FarmStatus) untrusted() int {
	if s.Trust == nil {
		return 0
	}
	return s.Trust.Modes[TrustNone]
}

func (t *FarmTrust) wrongWith(p TrustPart, now time.Time) []string {
	var out []string
	switch end := p.CertificateEnd; {
	case end.IsZero():
	case !end.After(now):
		out = append(out, "its certificate has run out: "+when(end))
	case end.Sub(now) < certificateWarning:
		out = append(out, "its certificate was not renewed and runs out: "+when(end))
	}
	if behind := t.Epoch > p.Epoch && p.Mode != TrustNone && !t.since.IsZero() && now.Sub(t.since) >= epochPatience; behind {
		out = append(out, fmt.Sprintf("it knows epoch %d of the farm's trust, others have known %d since %s: it may still "+
			"talk to nodes that were shut out", p.Epoch, t.Epoch, when(t.since)))
	}
	return out
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
