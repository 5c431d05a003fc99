package node

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// sources are the names of where bytes that a client got came from.
var sources = [...]string{transfer.FromDisk: "disk", transfer.FromPeer: "peer", transfer.FromUpstream: "upstream"}

// A tally is how many bytes of one answer came from where.
type tally [len(sources)]int64

// most is the source that most bytes came from; ok is false when there were none.
func (t tally) most() (most transfer.Source, ok bool) {
	for s, n := range t {
		if n > t[most] {
			most = transfer.Source(s)
		}
	}
	return most, t[most] > 0
}

// metrics are the node's own; the rooms bring theirs.
type metrics struct {
	registry *prometheus.Registry
	stale    prometheus.Counter
	healed   prometheus.Counter
	// staleRights counts what clients got although the upstream could not be asked about them.
	staleRights prometheus.Counter
	served      [len(sources)]prometheus.Counter
	bytes       [len(sources)]atomic.Int64
	requests    [len(sources)]atomic.Int64
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.stale = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pd_node_stale_answers_total", Help: "Tags and lists answered from memory because the upstream could not be asked.",
	})
	m.healed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pd_node_healed_answers_total", Help: "Answers from disk that went on from a fetch because a piece on disk was wrong.",
	})
	m.staleRights = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "p2pd_node_stale_rights_total", Help: "Requests for private content that were answered by what the upstream said of the client before, since it could not be asked.",
	})
	served := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "p2pd_node_served_bytes_total", Help: "Blob bytes given to this host's clients, by where they came from.",
	}, []string{"source"})
	m.registry.MustRegister(m.stale, m.healed, m.staleRights, served)
	for s, name := range sources {
		m.served[s] = served.WithLabelValues(name)
	}
	return m
}

// count counts what a client got in one answer, which counts for the source that most of it came from.
func (m *metrics) count(t tally) {
	for s, size := range t {
		m.served[s].Add(float64(size))
		m.bytes[s].Add(size)
	}
	if s, ok := t.most(); ok {
		m.requests[s].Add(1)
	}
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
	{"p2pd_transfer_sent_pieces_total", "Pieces sent to peers.", false, func(s transfer.Stats) float64 { return float64(s.PiecesSent) }},
	{"p2pd_transfer_received_pieces_total", "Pieces received from peers.", false, func(s transfer.Stats) float64 { return float64(s.PiecesReceived) }},
	{"p2pd_transfer_pushed_pieces_total", "Pieces sent to peers unasked.", false, func(s transfer.Stats) float64 { return float64(s.Pushes) }},
	{"p2pd_transfer_busy_answers_total", "Requests of peers that were put off.", false, func(s transfer.Stats) float64 { return float64(s.Busy) }},
	{"p2pd_transfer_duplicate_pieces_total", "Pieces that arrived twice.", false, func(s transfer.Stats) float64 { return float64(s.Duplicates) }},
	{"p2pd_transfer_mismatched_pieces_total", "Pieces of peers that did not match their list.", false, func(s transfer.Stats) float64 { return float64(s.Mismatches) }},
	{"p2pd_transfer_condemned_lists_total", "Piece lists that did not lead to the digest.", false, func(s transfer.Stats) float64 { return float64(s.Condemned) }},
	{"p2pd_transfer_takeover_fetches_total", "Fetches taken over from a lost owner.", false, func(s transfer.Stats) float64 { return float64(s.Takeovers) }},
	{"p2pd_transfer_fallback_fetches_total", "Fetches from the upstream because no owner could be asked.", false, func(s transfer.Stats) float64 { return float64(s.Fallbacks) }},
	{"p2pd_transfer_yielded_fetches_total", "Fetches left to another node that held the blob's lease.", false, func(s transfer.Stats) float64 { return float64(s.Yields) }},
	{"p2pd_transfer_lost_peers_total", "Times that a node could not be reached.", false, func(s transfer.Stats) float64 { return float64(s.Lost) }},
	{"p2pd_transfer_strangers_total", "Connections refused at the peer port because they brought nothing of its protocol.", false, func(s transfer.Stats) float64 { return float64(s.Strangers) }},
	{"p2pd_transfer_swarms", "Swarms that this node takes part in.", true, func(s transfer.Stats) float64 { return float64(s.Swarms) }},
	{"p2pd_transfer_fetching_blobs", "Blobs that this node is fetching.", true, func(s transfer.Stats) float64 { return float64(s.Fetching) }},
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
