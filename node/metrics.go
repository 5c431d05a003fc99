package node

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// A source says where bytes that a client got came from.
type source int

const (
	fromDisk source = iota
	fromPeer
	fromUpstream
	sources
)

func (s source) String() string { return [...]string{"disk", "peer", "upstream"}[s] }

// metrics are the node's own; the rooms bring theirs.
type metrics struct {
	registry *prometheus.Registry
	stale    prometheus.Counter
	served   [sources]prometheus.Counter
	bytes    [sources]atomic.Int64
	requests [sources]atomic.Int64
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.stale = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pd_node_stale_answers_total", Help: "Tags and lists answered from memory because the upstream could not be asked.",
	})
	served := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "p2pd_node_served_bytes_total", Help: "Blob bytes given to this host's clients, by where they came from.",
	}, []string{"source"})
	m.registry.MustRegister(m.stale, served)
	for s := range sources {
		m.served[s] = served.WithLabelValues(s.String())
	}
	return m
}

// served counts what a client got.
func (n *Node) served(s source, size int64) {
	n.metrics.served[s].Add(float64(size))
	n.metrics.bytes[s].Add(size)
	n.metrics.requests[s].Add(1)
}

// An engineMetric is one of the engine's totals as Prometheus sees it.
type engineMetric struct {
	name, help string
	gauge      bool
	value      func(transfer.Stats) float64
}

var engineMetrics = [...]engineMetric{
	{"p2pd_transfer_upstream_bytes_total", "Blob bytes received from upstreams.", false, func(s transfer.Stats) float64 { return float64(s.UpstreamBytes) }},
	{"p2pd_transfer_sent_bytes_total", "Blob bytes sent to peers.", false, func(s transfer.Stats) float64 { return float64(s.SentBytes) }},
	{"p2pd_transfer_received_bytes_total", "Blob bytes received from peers.", false, func(s transfer.Stats) float64 { return float64(s.ReceivedBytes) }},
	{"p2pd_transfer_cross_zone_bytes_total", "Blob bytes received from peers in other zones.", false, func(s transfer.Stats) float64 { return float64(s.CrossZoneBytes) }},
	{"p2pd_transfer_pushes_total", "Pieces sent to peers unasked.", false, func(s transfer.Stats) float64 { return float64(s.Pushes) }},
	{"p2pd_transfer_busy_total", "Requests of peers that were put off.", false, func(s transfer.Stats) float64 { return float64(s.Busy) }},
	{"p2pd_transfer_duplicates_total", "Pieces that arrived twice.", false, func(s transfer.Stats) float64 { return float64(s.Duplicates) }},
	{"p2pd_transfer_mismatches_total", "Pieces of peers that did not match their list.", false, func(s transfer.Stats) float64 { return float64(s.Mismatches) }},
	{"p2pd_transfer_condemned_total", "Piece lists that did not lead to the digest.", false, func(s transfer.Stats) float64 { return float64(s.Condemned) }},
	{"p2pd_transfer_takeovers_total", "Fetches taken over from a lost owner.", false, func(s transfer.Stats) float64 { return float64(s.Takeovers) }},
	{"p2pd_transfer_fallbacks_total", "Fetches from the upstream because no owner could be asked.", false, func(s transfer.Stats) float64 { return float64(s.Fallbacks) }},
	{"p2pd_transfer_lost_total", "Times that a node could not be reached.", false, func(s transfer.Stats) float64 { return float64(s.Lost) }},
	{"p2pd_transfer_swarms", "Swarms that this node takes part in.", true, func(s transfer.Stats) float64 { return float64(s.Swarms) }},
}

// An upstreamMetric is one total of an upstream as Prometheus sees it; its label is the upstream's name from the
// configuration.
type upstreamMetric struct {
	name, help string
	value      func(upstream.Stats) float64
}

var upstreamMetrics = [...]upstreamMetric{
	{"p2pd_upstream_bytes_total", "Bytes of answers' bodies that were read.", func(s upstream.Stats) float64 { return float64(s.Bytes) }},
	{"p2pd_upstream_requests_total", "Requests sent, retries and redirects included.", func(s upstream.Stats) float64 { return float64(s.Requests.Total()) }},
	{"p2pd_upstream_failures_total", "Calls and bodies that ended because the upstream could not be reached or failed.", func(s upstream.Stats) float64 { return float64(s.Failures) }},
	{"p2pd_upstream_reread_bytes_total", "Bytes that an upstream without ranges sent again.", func(s upstream.Stats) float64 { return float64(s.Reread) }},
	{"p2pd_upstream_too_many_requests_total", "Answers that said that the upstream's limit is reached.", func(s upstream.Stats) float64 { return float64(s.TooManyRequests) }},
}

// upstreamCollector shows the upstreams' totals to Prometheus.
type upstreamCollector struct{ upstreams *upstreams }

func (c upstreamCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c upstreamCollector) Collect(ch chan<- prometheus.Metric) {
	for name, client := range c.upstreams.clients {
		stats := client.Stats()
		for _, m := range upstreamMetrics {
			desc := prometheus.NewDesc(m.name, m.help, nil, prometheus.Labels{"upstream": name})
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, m.value(stats))
		}
	}
}

// engineCollector shows the engine's totals to Prometheus.
type engineCollector struct{ engine *transfer.Engine }

func (c engineCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c engineCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.engine.Stats()
	for _, m := range engineMetrics {
		kind := prometheus.CounterValue
		if m.gauge {
			kind = prometheus.GaugeValue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, nil, nil), kind, m.value(stats))
	}
}
