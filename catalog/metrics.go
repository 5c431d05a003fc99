package catalog

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The kinds of request that are told apart in metrics.
const (
	kindWrite = "write"
	kindLease = "lease"
	kindRead  = "read"
)

// meters count what this node asks of the catalog.
type meters struct {
	seconds    *prometheus.HistogramVec
	unanswered *prometheus.CounterVec
}

func newMeters() meters {
	m := meters{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "p2pd_catalog_request_seconds",
			Help:    "Time until this node's requests to the catalog were answered, by kind; those answered from a replica here as it is are not counted.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"kind"}),
		unanswered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "p2pd_catalog_unanswered_total",
			Help: "Requests of this node that no leader answered in time, by kind.",
		}, []string{"kind"}),
	}
	for _, kind := range []string{kindWrite, kindLease, kindRead} {
		m.seconds.WithLabelValues(kind)
		m.unanswered.WithLabelValues(kind)
	}
	return m
}

// asked counts a request that began then.
func (m meters) asked(kind string, began time.Time, err error) {
	if errors.Is(err, ErrNoQuorum) {
		m.unanswered.WithLabelValues(kind).Inc()
		return
	}
	m.seconds.WithLabelValues(kind).Observe(time.Since(began).Seconds())
}

// Collector shows the catalog to Prometheus as this node sees it.
func (c *Catalog) Collector() prometheus.Collector { return collector{c} }

type collector struct{ catalog *Catalog }

// Describe implements prometheus.Collector.
func (m collector) Describe(ch chan<- *prometheus.Desc) {
	m.catalog.meters.seconds.Describe(ch)
	m.catalog.meters.unanswered.Describe(ch)
	for _, g := range gauges() {
		ch <- g.desc()
	}
	ch <- stateDesc()
}

// Collect implements prometheus.Collector. It does not wait.
func (m collector) Collect(ch chan<- prometheus.Metric) {
	m.catalog.meters.seconds.Collect(ch)
	m.catalog.meters.unanswered.Collect(ch)
	s := m.catalog.Status()
	v := View{newState()}
	if r := m.catalog.current(); r != nil {
		v = r.machine.view()
	}
	for _, g := range gauges() {
		ch <- prometheus.MustNewConstMetric(g.desc(), prometheus.GaugeValue, g.value(m.catalog, s, v))
	}
	for _, name := range stateNames() {
		is := strings.HasPrefix(string(s.State), name)
		ch <- prometheus.MustNewConstMetric(stateDesc(), prometheus.GaugeValue, float64(b2i(is)), name)
	}
}

func stateDesc() *prometheus.Desc {
	return prometheus.NewDesc("p2pd_catalog_state", "1 for what this node is to the catalog, 0 for the rest.", []string{"state"}, nil)
}

// stateNames are what a State begins with, one for each.
func stateNames() []string {
	return []string{
		"waiting for seeds", string(SeedListsDiffer), string(WaitingForCatalog), string(Voter), string(NonVoter), "refused", string(NoQuorum),
	}
}

type gauge struct {
	name, help string
	value      func(c *Catalog, s Status, v View) float64
}

func (g gauge) desc() *prometheus.Desc { return prometheus.NewDesc(g.name, g.help, nil, nil) }

func gauges() []gauge {
	return []gauge{
		{"p2pd_catalog_leader", "1 while this node orders the catalog.", func(c *Catalog, s Status, _ View) float64 {
			return float64(b2i(s.Leader == c.cfg.Node))
		}},
		{"p2pd_catalog_commit_index", "Index of the last command that a majority is known to have.", func(_ *Catalog, s Status, _ View) float64 {
			return float64(s.Commit)
		}},
		{"p2pd_catalog_applied_index", "Index of the last command that this node's replica has applied; 0 without one.", func(_ *Catalog, s Status, _ View) float64 {
			return float64(s.Applied)
		}},
		{"p2pd_catalog_term", "Raft's term.", func(_ *Catalog, s Status, _ View) float64 { return float64(s.Term) }},
		{"p2pd_catalog_voters", "Voters of the catalog.", func(_ *Catalog, s Status, _ View) float64 { return float64(len(s.Voters)) }},
		{"p2pd_catalog_tolerance_voters", "Voters that may still fail before there is no quorum.", func(_ *Catalog, s Status, _ View) float64 {
			return float64(s.Tolerance)
		}},
		{"p2pd_catalog_tags", "Tags in this node's replica.", func(_ *Catalog, _ Status, v View) float64 { return float64(v.s.tags.len()) }},
		{"p2pd_catalog_manifests", "Manifests in this node's replica, in each repository counted once.", func(_ *Catalog, _ Status, v View) float64 {
			return float64(v.s.manifests.len())
		}},
		{"p2pd_catalog_digests", "Blobs and manifests that this node's replica names.", func(_ *Catalog, _ Status, v View) float64 {
			return float64(v.s.holds.len())
		}},
	}
}
