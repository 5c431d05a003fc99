package sim

import (
	"slices"
	"time"
)

// A Result is what a run measured. Ratios are times from a host's start to its end divided
// by the host's bound; the owner is one of the hosts.
type Result struct {
	Hosts         int           `json:"hosts"`
	Bound         time.Duration `json:"bound_ns"`
	Mean          float64       `json:"mean_ratio"`
	P50           float64       `json:"p50_ratio"`
	P99           float64       `json:"p99_ratio"`
	Max           float64       `json:"max_ratio"`
	UpstreamRatio float64       `json:"upstream_ratio"`     // bytes from the upstream ÷ unique bytes
	CrossRatio    float64       `json:"cross_zone_ratio"`   // bytes that crossed zones ÷ unique bytes × (zones − 1)
	Wasted        float64       `json:"wasted_ratio"`       // bytes that nobody needed ÷ bytes that hosts sent
	Overhead      float64       `json:"overhead_ratio"`     // bytes of messages ÷ bytes of pieces
	PerPiece      float64       `json:"messages_per_piece"` // messages ÷ pieces stored by all hosts
	Messages      int64         `json:"messages"`
	Haves         int64         `json:"have_messages"`
	Requests      int64         `json:"requests"`
	Busy          int64         `json:"busy_answers"`
	Duplicates    int64         `json:"duplicate_requests"`
	Pushes        int64         `json:"pushes"`
	Lost          int64         `json:"lost_messages"`
	Accused       int           `json:"hosts_accused"` // peers that somebody found lying
}

// bound is the least time in which a host that starts at that time can have the blob.
func (s *sim) bound(start time.Duration) time.Duration {
	f := float64(s.pieces) * float64(s.cfg.Piece)
	host := f / s.cfg.HostRate
	if s.cfg.Warm {
		return time.Duration(host * 1e9)
	}
	up := f/s.cfg.UpstreamRate - start.Seconds()
	n := float64(s.cfg.Hosts)
	all := n*f/(s.cfg.UpstreamRate+n*s.cfg.HostRate) - start.Seconds()
	return time.Duration(max(host, up, all) * 1e9)
}

func (s *sim) result() Result {
	var ratios []float64
	for i := range s.hosts[:s.cfg.Hosts] {
		if h := &s.hosts[i]; !h.dead && !h.lies && (i != 0 || !s.cfg.Warm) {
			ratios = append(ratios, float64(h.done-h.start)/float64(s.bound(h.start)))
		}
	}
	slices.Sort(ratios)
	r := Result{
		Hosts: s.cfg.Hosts, Bound: s.bound(0), Lost: s.lostMessages,
		Busy: s.busy, Duplicates: s.duplicates, Pushes: s.pushes,
		Haves: s.sent[msgHave], Requests: s.sent[msgRequest], Accused: s.accused(),
	}
	if len(ratios) > 0 {
		for _, x := range ratios {
			r.Mean += x / float64(len(ratios))
		}
		at := func(q float64) float64 { return ratios[int(q*float64(len(ratios)-1)+0.5)] }
		r.P50, r.P99, r.Max = at(0.5), at(0.99), ratios[len(ratios)-1]
	}
	unique := float64(s.pieces) * float64(s.cfg.Piece)
	for _, n := range s.sent {
		r.Messages += n
	}
	r.PerPiece = float64(r.Messages) / float64(s.pieces*s.cfg.Hosts)
	r.UpstreamRatio = float64(s.upstreamBytes) / unique
	if s.cfg.Zones > 1 {
		r.CrossRatio = float64(s.crossBytes) / unique / float64(s.cfg.Zones-1)
	}
	if peers := s.bytes - s.upstreamBytes; peers > 0 {
		r.Wasted = float64(s.wasted) / float64(peers)
		r.Overhead = float64(s.messageBytes) / float64(peers)
	}
	return r
}

// accused counts the hosts that another one has found lying.
func (s *sim) accused() int {
	n := 0
	for i := range s.cfg.Hosts {
		for j := range s.cfg.Hosts {
			if h := &s.hosts[j]; h.fetcher != nil && s.liars > 0 && h.fetcher.Lied(peer(i)) {
				n++
				break
			}
		}
	}
	return n
}
