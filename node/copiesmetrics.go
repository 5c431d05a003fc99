package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pullonce/pullonce/copies"
)

// A copiesMetric is one figure about the copies of hosted content as Prometheus sees it.
type copiesMetric struct {
	name, help string
	gauge      bool
	value      func(copies.Stats) float64
}

var copiesMetrics = [...]copiesMetric{
	{"p2pd_copies_hosted_blobs", "Hosted blobs that this node keeps.", true, func(s copies.Stats) float64 { return float64(s.Hosted) }},
	{"p2pd_copies_hosted_bytes", "Their bytes.", true, func(s copies.Stats) float64 { return float64(s.HostedBytes) }},
	{"p2pd_copies_endangered_blobs", "Hosted blobs that too few nodes keep; each is counted by one node.", true, func(s copies.Stats) float64 { return float64(s.BelowCopies) }},
	{"p2pd_copies_stray_blobs", "Hosted blobs here that belong elsewhere.", true, func(s copies.Stats) float64 { return float64(s.Strays) }},
	{"p2pd_copies_repairing_blobs", "Hosted blobs that are being copied again.", true, func(s copies.Stats) float64 { return float64(s.Repairing) }},
	{"p2pd_copies_repaired_total", "Copies made again.", false, func(s copies.Stats) float64 { return float64(s.Repaired) }},
	{"p2pd_copies_repaired_bytes_total", "Bytes of copies made again.", false, func(s copies.Stats) float64 { return float64(s.RepairedBytes) }},
	{"p2pd_copies_pushed_total", "Copies sent to other nodes for pushes.", false, func(s copies.Stats) float64 { return float64(s.Copied) }},
	{"p2pd_copies_pushed_bytes_total", "Bytes of copies sent to other nodes for pushes.", false, func(s copies.Stats) float64 { return float64(s.CopiedBytes) }},
	{"p2pd_copies_received_total", "Copies that peers sent here.", false, func(s copies.Stats) float64 { return float64(s.Received) }},
	{"p2pd_copies_received_bytes_total", "Bytes of copies that peers sent here.", false, func(s copies.Stats) float64 { return float64(s.ReceivedBytes) }},
	{"p2pd_copies_refused_total", "Copies that peers sent here and that were not kept.", false, func(s copies.Stats) float64 { return float64(s.Refused) }},
	{"p2pd_copies_failed_total", "Nodes that were given up during a push.", false, func(s copies.Stats) float64 { return float64(s.Failed) }},
}

// copiesCollector shows the copies of hosted content to Prometheus.
type copiesCollector struct{ copies *copies.Keeper }

func (c copiesCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c copiesCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.copies.Stats()
	for _, m := range copiesMetrics {
		kind := prometheus.CounterValue
		if m.gauge {
			kind = prometheus.GaugeValue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, nil, nil), kind, m.value(stats))
	}
}
