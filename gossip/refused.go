package gossip

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// A reason says why something that came in was refused.
type reason int

const (
	badPacket  reason = iota // no key of the farm opens it
	badStream                // the same, or no gossip at all
	oversized                // it says that more follows than any member sends
	silent                   // it did not say what it wants in time
	crowded                  // too many others wait
	closedDoor               // a TLS handshake where nobody takes one
	refusedID                // a member that is not to be one
	reasons
)

func (r reason) String() string {
	return [reasons]string{"packet", "stream", "oversized", "silent", "crowded", "door", "member"}[r]
}

// refusals count what was refused, and say so in the log now and then: strangers can cause any number of them.
type refusals struct {
	counts [reasons]atomic.Int64
	log    *slog.Logger
	limit  *rate.Limiter
	desc   *prometheus.Desc
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{
		log: log, limit: rate.NewLimiter(rate.Every(time.Minute), 1),
		desc: prometheus.NewDesc("p2pd_gossip_refused_total",
			"Packets, connections and members that gossip refused, by what was wrong with them.", []string{"reason"}, nil),
	}
}

func (r *refusals) count(why reason, address string) {
	r.counts[why].Add(1)
	if r.limit.Allow() {
		r.log.LogAttrs(context.Background(), slog.LevelWarn, "gossip refused; more of it is counted only",
			slog.String("reason", why.String()), slog.String("address", address))
	}
}

// Describe implements prometheus.Collector.
func (r *refusals) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect implements prometheus.Collector.
func (r *refusals) Collect(ch chan<- prometheus.Metric) {
	for why := range reasons {
		ch <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, float64(r.counts[why].Load()), why.String())
	}
}

// Refused is how many packets, connections and members were refused since the start.
func (g *Gossip) Refused() int64 {
	sum := int64(0)
	for i := range g.refused.counts {
		sum += g.refused.counts[i].Load()
	}
	return sum
}

// Collector shows to Prometheus what was refused.
func (g *Gossip) Collector() prometheus.Collector { return g.refused }
